from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings


def test_a_live_gateway_says_so(tmp_path):
    client = TestClient(create_app(Settings(data_dir=tmp_path)))
    response = client.get("/health/live")
    assert response.status_code == 200
    assert response.json() == {"status": "live"}

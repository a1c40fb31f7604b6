"""A small data set of real pictures and jobs on it, as a client of a running service makes them."""

import io
import time
import zipfile

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

CLASSES = 4


def digits_zip(*, each=40, start=0):
    """Scans of handwritten digits 0 to 3 as 32 x 32 PNG in class folders."""
    digits = load_digits()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for label in range(CLASSES):
            for index in np.flatnonzero(digits.target == label)[start : start + each]:
                archive.writestr(f"digits/{label}/{index:04d}.png", png(digits.images[index]))
    return buffer.getvalue()


def png(image):
    """A scan, 8 x 8 in 0..16, as a PNG of 32 x 32."""
    picture = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


class Trainer:
    """A client that trains."""

    def __init__(self, url):
        self.client = httpx.Client(base_url=url, timeout=60)

    def upload(self, data, filename="digits.zip"):
        answer = self.client.post(
            "/v1/files", files={"file": (filename, data)}, data={"purpose": "fine-tune"}
        )
        assert answer.is_success, answer.text
        return answer.json()["id"]

    def create(self, **spec):
        answer = self.client.post("/v1/fine_tuning/jobs", json={"task": "classification", **spec})
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()["id"]

    def job(self, job_id):
        return self.client.get(f"/v1/fine_tuning/jobs/{job_id}").json()

    def until(self, job_id, *statuses, timeout_s=120.0):
        """Wait for one of the statuses; the job then."""
        deadline = time.monotonic() + timeout_s
        while (job := self.job(job_id))["status"] not in statuses:
            assert job["status"] not in {"succeeded", "failed", "cancelled"}, job
            assert time.monotonic() < deadline, job
            time.sleep(0.1)
        return job

    def artifact(self, model, name, version=1):
        answer = self.client.get(f"/v1/models/{model}/versions/{version}/artifacts/{name}")
        assert answer.is_success, answer.text
        return answer.content

    def best_label(self, model, data):
        answer = self.client.post(f"/v1/classification?model={model}", content=data)
        assert answer.is_success, answer.text
        return answer.json()["predictions"][0]["label"]

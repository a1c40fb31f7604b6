"""URIs say exactly which file is meant, or are refused."""

import pytest

from models.sources import SourceCode, SourceError, parse_source


@pytest.mark.parametrize(
    ("uri", "file_name", "is_local"),
    [
        ("pypi:some-package==1.0.0#some_package/models/net.pth", "net.pth", False),
        ("hf:org/name@v1.0#onnx/model.onnx", "model.onnx", False),
        ("hf:gpt2@main#config.json", "config.json", False),
        ("https://host.example/a/net.onnx?download=1", "net.onnx", False),
        ("file:/srv/models/net.onnx", "net.onnx", True),
        ("file:///srv/models/net.onnx", "net.onnx", True),
    ],
)
def test_a_source_knows_its_file_and_whether_it_is_of_this_machine(uri, file_name, is_local):
    source = parse_source(uri)

    assert source.uri == uri
    assert source.file_name == file_name
    assert source.is_local is is_local


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "net.onnx",
        "ftp://host/net.onnx",
        "http://host.example/net.onnx",
        "pypi:package#net.pth",
        "pypi:package>=1#net.pth",
        "pypi:package==1.0",
        "pypi:--index-url=x==1#net.pth",
        "pypi:package==-r#net.pth",
        "pypi:a @ https://evil.example/x.whl==1#net.pth",
        "pypi:package==1.0#/etc/passwd",
        "pypi:package==1.0#../../etc/passwd",
        "pypi:package==1.0#a/../../b",
        "pypi:package==1.0#a\\..\\b",
        "pypi:package==1.0#a\nb",
        "hf:org/name#file",
        "hf:org/name@#file",
        "hf:org/name@main",
        "hf:a/b/c@main#file",
        "hf:org/name@main#/etc/passwd",
        "hf:org/name@main#../file",
        "hf:org/name@../main#file",
        "https://",
        "https://user:secret@host.example/x",
        "https://host.example:99999/x",
        "https://host.example/x#fragment",
        "https://host.example/a b\r\nX-Evil: 1",
        "file:relative.onnx",
        "file:../x",
    ],
)
def test_what_names_no_file_is_refused_with_the_form_to_use(uri):
    with pytest.raises(SourceError) as caught:
        parse_source(uri)

    assert caught.value.code is SourceCode.INVALID
    assert caught.value.hint

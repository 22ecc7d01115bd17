"""Where settings come from, and that a bad one is told in one sentence."""

import dataclasses

import pytest

from inference_service.settings import Settings, SettingsError, is_loopback, load, unread


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "midfill.toml"
        path.write_text(text)
        return str(path)

    return write


def test_flags_beat_environment_beats_file_beats_defaults(config):
    path = config('port = 1\nmax_queue = 2\ndevice = "cpu"\ndrain_s = 5\n')
    environ = {"MIDFILL_CONFIG": path, "MIDFILL_PORT": "3", "MIDFILL_MAX_QUEUE": "4", "MIDFILL_MODEL": ""}
    settings = load(["--port", "5"], environ)
    assert (settings.port, settings.max_queue, settings.device, settings.model) == (5, 4, "cpu", "nano")
    assert settings.drain_s == 5.0
    assert load([], {}) == Settings()


def test_every_setting_is_a_flag_and_an_environment_variable():
    for item in dataclasses.fields(Settings):
        if item.name == "allow_anonymous":
            value, text = True, "true"
        elif isinstance(item.default, bool):
            value, text = True, "on"
        elif isinstance(item.default, (int, float)):
            value = type(item.default)(item.metadata["high"])
            text = str(value)
        else:
            words = {"device": "cpu", "host": "localhost", "kv_cache": "int8", "log_format": "plain"}
            value = text = words.get(item.name, "somewhere")
        flag = "--" + item.name.replace("_", "-")
        from_flag = load([flag] if isinstance(value, bool) else [flag, text], {})
        assert getattr(from_flag, item.name) == value
        assert load([], {f"MIDFILL_{item.name.upper()}": text}) == from_flag


@pytest.mark.parametrize("name", ["port", "grpc_port"])
def test_a_kubernetes_service_link_is_not_a_port(name):
    assert load([], {f"MIDFILL_{name.upper()}": "tcp://10.0.0.1:8000"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("MIDFILL_MODLE", "; is MIDFILL_MODEL meant?"),
        ("MIDFILL_DATABSE", "; is MIDFILL_DATABASE meant?"),
        ("MIDFILL_API_KEYS", "; is MIDFILL_API_KEYS_FILE meant?"),
        ("MIDFILL_WORKERS", ""),
    ],
)
def test_a_variable_that_nobody_reads_is_named_with_the_nearest_one(variable, nearest):
    assert unread({variable: "a secret", "PATH": "/bin"}) == [f"{variable} is no setting and is ignored{nearest}"]


def test_what_a_setting_and_kubernetes_are_called_is_no_misspelling():
    ours = {f"MIDFILL_{item.name.upper()}": "" for item in dataclasses.fields(Settings)}
    links = dict.fromkeys(("MIDFILL_SERVICE_HOST", "MIDFILL_REDIS_SERVICE_PORT_HTTP", "MIDFILL_PORT_8000_TCP_ADDR"), "")
    assert unread(ours | links | {"MIDFILL_REDIS_PORT": "tcp://10.0.0.1:6379"}) == []


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"MIDFILL_PORT": "http"}, "MIDFILL_PORT must be an integer from 0 to 65535, not 'http'"),
        ({"MIDFILL_ALLOW_ANONYMOUS": "maybe"}, "MIDFILL_ALLOW_ANONYMOUS must be true or false, not 'maybe'"),
        ({"MIDFILL_DEVICE": "tpu"}, "MIDFILL_DEVICE must be auto, cpu or cuda, not 'tpu'"),
        ({"MIDFILL_DRAIN_S": "nan"}, "MIDFILL_DRAIN_S must be a number from 0 to 3600, not nan"),
        ({"MIDFILL_MAX_QUEUE": "0"}, "MIDFILL_MAX_QUEUE must be an integer from 1 to 100000, not 0"),
    ],
)
def test_bad_environment(environ, says):
    with pytest.raises(SettingsError) as caught:
        load([], environ)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "unknown key 'prot'"),
        ('port = "8000"', "port in "),
        ("port = true", "must be an integer"),
        ("port = 8000.0", "must be an integer"),
        ('model = ""', "must be a non-empty string"),
        ("[server]\nport = 1", "unknown key 'server'"),
        ("port =", "not valid TOML"),
    ],
)
def test_bad_file(config, text, says):
    path = config(text)
    with pytest.raises(SettingsError) as caught:
        load(["--config", path], {})
    assert says in str(caught.value) and path in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host) and Settings(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "midfill.example", "127.0.0.1.example"])
def test_other_addresses_need_a_key_or_the_explicit_flag(host):
    with pytest.raises(SettingsError, match="refusing to listen"):
        Settings(host=host)
    assert Settings(host=host, allow_anonymous=True)
    assert Settings(host=host, api_keys_file="keys")

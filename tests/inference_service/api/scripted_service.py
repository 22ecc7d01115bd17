"""`midfill-serve` with the scripted backend in place of the local engine; SCRIPT holds its fields as JSON."""

import json
import os
import sys
import types

from inference_service.__main__ import main
from tests.inference_service.api.scripted_backend import ScriptedBackend


def local_backend(model: str, **_: object) -> ScriptedBackend:
    script = json.loads(os.environ.get("SCRIPT", "{}"))
    if "load_error" in script:
        script["load_error"] = RuntimeError(script["load_error"])
    return ScriptedBackend(**script)


local = types.ModuleType("inference_service.backends.local")
local.LocalBackend = local_backend
sys.modules[local.__name__] = local
sys.exit(main())

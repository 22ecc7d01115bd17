"""llama.cpp's HTTP server in a process of its own: MODEL.gguf PORT."""

import sys
import threading

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.model_alias = {"tiny-gpt2"}
params.n_ctx, params.n_parallel, params.warmup, params.fit_params = 4 * 16_384, 4, False, False
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print(f"ready on {server.listening_address}", flush=True)
threading.Event().wait()

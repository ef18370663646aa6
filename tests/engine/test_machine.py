"""Memory that can still be had, as the kernel's files tell it."""

from pathlib import Path

from octavo.engine.machine import available_memory_bytes

GIB = 1 << 30


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def machine(root: Path, cgroup: str) -> Path:
    write(root, proc__meminfo=f"MemTotal: 99 kB\nMemAvailable: {16 * GIB // 1024} kB\n", proc__self__cgroup=cgroup)
    return root


def test_without_a_limit_it_is_what_the_system_has(tmp_path: Path) -> None:
    assert available_memory_bytes(machine(tmp_path, "0::/\n")) == 16 * GIB


def test_the_tightest_enclosing_cgroup_counts_less_its_page_cache(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/slice/unit\n")
    write(
        root / "sys/fs/cgroup/slice",
        memory_dot_max=str(8 * GIB),
        memory_dot_current=str(5 * GIB),
        memory_dot_stat=f"anon 1\ninactive_file {1 * GIB}\n",
    )
    write(root / "sys/fs/cgroup/slice/unit", memory_dot_max="max", memory_dot_current="7")
    assert available_memory_bytes(root) == 4 * GIB


def test_version_1(tmp_path: Path) -> None:
    root = machine(tmp_path, "9:cpu,cpuacct:/x\n4:memory:/box\n")
    box = root / "sys/fs/cgroup/memory/box"
    box.mkdir(parents=True)
    (box / "memory.limit_in_bytes").write_text(str(2 * GIB))
    (box / "memory.usage_in_bytes").write_text(str(GIB))
    assert available_memory_bytes(root) == GIB

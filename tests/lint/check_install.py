"""What `meson install` puts down is enough for a stranger's program: headers, library, pkg-config.

    check_install.py BUILD_DIR COMPILER [ARGUMENT ...]

Installs into a scratch folder, compiles a program there as C11 (and as C++ where a compiler is
found), links it with the flags that pkg-config gives, and runs it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
#include <stdio.h>
#include <engine/navmap.h>
int main(void)
{
    struct navmap_index *index = NULL;
    int status = navmap_open("/nowhere/at/all", NAVMAP_READ, NULL, &index);
    printf("%s %s: %s\\n", navmap_version(), navmap_strerror(status), navmap_error_detail());
    return status == NAVMAP_ENOINDEX ? 0 : 1;
}
"""


def run(*command, env=None):
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    build, compiler = sys.argv[1], sys.argv[2:]
    compilers = [(compiler, "c", "c11")]
    if plus := shutil.which("c++"):
        compilers.append(([plus], "cc", "c++17"))
    with tempfile.TemporaryDirectory() as scratch:
        stage = Path(scratch) / "stage"
        run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", str(stage))
        description = next(stage.rglob("navmap.pc"))
        library = next(stage.rglob("libnavmap.so")).parent
        prefix = next(stage.rglob("include")).parent
        flags = run(
            "pkg-config",
            f"--define-variable=prefix={prefix}",
            "--cflags",
            "--libs",
            "navmap",
            env=dict(os.environ, PKG_CONFIG_PATH=str(description.parent)),
        ).split()
        for command, suffix, dialect in compilers:
            source, program = Path(scratch) / f"program.{suffix}", Path(scratch) / "program"
            source.write_text(PROGRAM)
            strict = [f"-std={dialect}", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
            run(*command, *strict, "-o", str(program), str(source), *flags)
            said = run(str(program), env=dict(os.environ, LD_LIBRARY_PATH=str(library)))
            print(f"{dialect}: {said.strip()}")
    print(f"{len(compilers)} passed, 0 failed")


if __name__ == "__main__":
    main()

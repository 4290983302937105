"""The command line: `stepwell run | compile | stages | tune | opt | ops | explain`.

Exit codes: 0 done; 1 the model or the program failed (the message says where); 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

LEVELS = ("raw", "torch", "linalg", "tile", "loops", "llvm", "ir", "asm", "obj", "gpu", "ptx", "cuda")

_INPUT = """an argument of the method, once per argument and in order: a .npy file; name=VALUE for a keyword; a number,
true, false or none; or a type such as float32[1,3,224,224] for seeded random data"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="stepwell",
        description="Compiles TorchScript archives to native code, without torch, and shows every step.",
        epilog="Examples: stepwell run model.pt --input x.npy   |   stepwell compile model.pt --emit=linalg --input "
        "'float32[1,3,224,224]'   |   stepwell stages model.pt --input x.npy",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run a method of an archive and report results and times")
    _model_arguments(run)
    run.add_argument("--labels", metavar="FILE", help="expected classes (.npy): the accuracy of argmax is printed")
    run.add_argument("--expect", metavar="FILE", help="expected output (.npy): the largest difference is printed")
    run.add_argument("--output", "-o", metavar="FILE", help="where to save the first output (.npy)")
    run.add_argument("--repeat", type=int, default=20, metavar="N", help="timed calls after the first (default 20)")
    run.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all cores)")

    emit = commands.add_parser("compile", help="print a method at some level of the stair")
    _model_arguments(emit)
    emit.add_argument("--emit", choices=LEVELS, default="linalg", help="the level (default linalg)")
    _showing_arguments(emit)

    stages = commands.add_parser("stages", help="per level: operations, kernels, time; compilations and what was interpreted")
    _model_arguments(stages)

    opt = commands.add_parser("opt", help="take a text of some level further down")
    opt.add_argument("file", help="MLIR text of the torch contract or below")
    opt.add_argument("--to", choices=LEVELS[1:], default="llvm", help="the level to stop at (default llvm)")
    opt.add_argument("--passes", metavar="LIST", default="", help="run exactly these passes, separated by commas")
    opt.add_argument("--verify", choices=("never", "crossings", "each"), default="crossings",
                     help="check the module never, at each level (default), or after each pass")  # fmt: skip
    _showing_arguments(opt)

    tune = commands.add_parser("tune", help="measure schedules for a method's kernels, and keep the faster ones")
    _model_arguments(tune)
    tune.add_argument("--seconds", type=float, default=60.0, metavar="S", help="about how long (default 60)")
    tune.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all cores)")
    tune.add_argument("--output", "-o", metavar="FILE", help="the file that takes what was found (default: beside the "
                      "object cache); STEPWELL_SCHEDULES=FILE makes another process use it")  # fmt: skip

    commands.add_parser("ops", help="all ops that are declared, as the table of docs/ops.md")
    explain = commands.add_parser("explain", help="one op: schema, where it is declared, what it becomes, its tests")
    explain.add_argument("op", metavar="OP", help="such as aten::softmax, aten::add.Tensor or mylib::clip_norm")
    return top


def _model_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="a TorchScript archive (.pt, .jit)")
    command.add_argument("--method", default="forward", help="the method (default forward)")
    command.add_argument("--input", "-i", action="append", default=[], metavar="VALUE", help=_INPUT)


def _showing_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--print-after", metavar="PASS", default="", help="print after this pass, or after `all`")
    command.add_argument("--locations", action="store_true", help="with the places of the source that ops come from")
    command.add_argument("--mlir-opt", action="store_true",
                         help="as `mlir-opt --allow-unregistered-dialect` reads it: our own ops in generic form")  # fmt: skip
    command.add_argument("--output", "-o", metavar="FILE", help="where to write (default: standard output)")
    command.add_argument("--target", metavar="NAME", default="", help="a CPU such as x86-64-v3 (default: this one), or "
                         "for gpu, ptx and cuda a GPU such as sm_80 (default sm_90a)")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = parser().parse_args(arguments)
    from stepwell.compiler import commands
    from stepwell.dialects.diagnostics import ArchiveError, Error

    try:
        return int(getattr(commands, options.command)(options))
    except commands.Usage as error:
        print(f"stepwell {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read has enough; what Python still holds for it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except ArchiveError as error:
        print(f"stepwell: {options.model}: {error}", file=sys.stderr)
    except (Error, OSError) as error:
        print(f"stepwell: {error}", file=sys.stderr)
    except Exception as error:
        # What the program itself raised: its type and text, and the places that it was raised at.
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"stepwell: {type(error).__name__}: {error}{notes}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

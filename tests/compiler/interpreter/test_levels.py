"""One program, three executions: interpreted at the loops level, interpreted at the llvm level, native.

What differs is a fault of the interpreter, of the last lowering, or of the printing of LLVM IR.
"""

import ml_dtypes
import numpy as np
import pytest

from stepwell.compiler.backends import jit
from stepwell.compiler.backends import target as targets
from stepwell.compiler.interpreter import Machine, interpret_lowered
from stepwell.dialects import context
from stepwell.lowering.cpu.expand_math import ExpandMath

TYPES = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "i8": np.int8, "i16": np.int16, "i32": np.int32,
    "i64": np.int64, "i1": np.bool_,
}  # fmt: skip


@pytest.fixture
def agree(parse):
    """Run a text's @forward everywhere on inputs; `outputs` gives (shape, dtype) of each. The outputs."""

    def agree(text, inputs, outputs, threads=(1, 3), exact=True):
        module = parse(text)
        target = targets.host()
        lowered = jit.lower_module(module.clone(), target)
        expected = None
        for count in threads:
            for level in ("loops", "llvm"):
                given = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
                results = [np.zeros(*spec) for spec in outputs]
                if level == "loops":
                    extra = Machine(module).call("forward", [*given, *results], threads=count)
                else:
                    extra = interpret_lowered(lowered, [*given, *results], threads=count)
                got = [*results, *extra]
                if expected is None:
                    expected = got
                for want, have in zip(expected, got, strict=True):
                    np.testing.assert_array_equal(have, want, f"{level} on {count} threads")
        native = jit.build(module.clone(), target)
        got = native(*[x.copy() if isinstance(x, np.ndarray) else x for x in inputs])
        for want, have in zip(expected, got, strict=True):
            if exact:
                np.testing.assert_array_equal(have, want, "native")
            else:
                np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6, err_msg="native")
        return expected

    return agree


def elementwise(operations, type, lanes=None):
    """@forward(%a, %b, one output per op): each op on every pair of elements, by scalars or by vectors."""
    value = f"vector<{lanes}x{type}>" if lanes else type
    size = 2 * 64
    outputs = [f"%o{n}: memref<{size}x{result}> {{host.kind = \"output\"}}" for n, (_, result) in enumerate(operations)]
    body = []
    for n, (text, result) in enumerate(operations):
        kind = f"vector<{lanes}x{result}>" if lanes else result
        body.append(f"%r{n} = {text.format(t=value, r=kind)}")
        if lanes:
            body.append(f"vector.store %r{n}, %o{n}[%i] : memref<{size}x{result}>, {kind}")
        else:
            body.append(f"memref.store %r{n}, %o{n}[%i] : memref<{size}x{result}>")
    load = f"vector.load %X[%i] : memref<{size}x{type}>, {value}"
    if not lanes:
        load = f"memref.load %X[%i] : memref<{size}x{type}>"
    return f"""
    func.func @forward(%a: memref<{size}x{type}>, %b: memref<{size}x{type}>, {", ".join(outputs)})
        attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %n = arith.constant {size} : index
      %s = arith.constant {lanes or 1} : index
      scf.for %i = %c0 to %n step %s {{
        %x = {load.replace("%X", "%a")}
        %y = {load.replace("%X", "%b")}
        {chr(10).join(body)}
      }}
      func.return
    }}"""


PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
FLOAT_PREDICATES = ("oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une", "uno")


@pytest.mark.parametrize("lanes", [None, 8])
@pytest.mark.parametrize("type", ["i8", "i16", "i32", "i64"])
def test_integer_arithmetic(agree, type, lanes):
    binary = "addi subi muli andi ori xori minsi maxsi minui maxui divsi remsi divui remui floordivsi ceildivsi"
    operations = [(f"arith.{name} %x, %y : {{t}}", type) for name in f"{binary} ceildivui".split()]
    operations += [(f"arith.cmpi {name}, %x, %y : {{t}}", "i1") for name in PREDICATES]
    if not lanes:
        operations += [(f"math.{name} %x : {{t}}", type) for name in ("ctpop", "ctlz", "cttz", "absi")]
    width = int(type[1:])
    for other in ("i8", "i16", "i32", "i64"):
        if int(other[1:]) > width:
            operations += [(f"arith.{name} %x : {{t}} to {{r}}", other) for name in ("extsi", "extui")]
        elif int(other[1:]) < width:
            operations.append(("arith.trunci %x : {t} to {r}", other))
    operations += [("arith.trunci %x : {t} to {r}", "i1"), ("arith.sitofp %x : {t} to {r}", "f32"),
                   ("arith.uitofp %x : {t} to {r}", "f64")]  # fmt: skip
    random = np.random.default_rng(0)
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    edges = np.array([0, 1, -1, 2, 7, -7, low + 1, high], TYPES[type])
    a = np.concatenate([np.repeat(edges, 8), random.integers(low, high, 64, TYPES[type])])
    b = np.concatenate([np.tile(edges, 8), random.integers(low, high, 64, TYPES[type])])
    b[b == 0] = 3
    outputs = [(128, TYPES[result]) for _, result in operations]
    agree(elementwise(operations, type, lanes), [a, b], outputs, threads=(1,))


@pytest.mark.parametrize("lanes", [None, 8])
@pytest.mark.parametrize("type", ["i8", "i32", "i64"])
def test_shifts(agree, type, lanes):
    operations = [(f"arith.{name} %x, %y : {{t}}", type) for name in ("shli", "shrsi", "shrui")]
    random = np.random.default_rng(0)
    width = int(type[1:])
    a = random.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1, 128, TYPES[type])
    b = random.integers(0, width, 128).astype(TYPES[type])
    agree(elementwise(operations, type, lanes), [a, b], [(128, TYPES[type])] * 3, threads=(1,))


@pytest.mark.parametrize("lanes", [None, 8])
@pytest.mark.parametrize("type", ["f32", "f64", "f16"])
def test_float_arithmetic(agree, type, lanes):
    binary = "addf subf mulf divf maximumf minimumf maxnumf minnumf remf".split()
    if lanes or type == "f16":
        binary.remove("remf")
    operations = [(f"arith.{name} %x, %y : {{t}}", type) for name in binary]
    operations += [(f"arith.cmpf {name}, %x, %y : {{t}}", "i1") for name in FLOAT_PREDICATES]
    operations += [(f"math.{name} %x : {{t}}", type) for name in "absf floor ceil trunc roundeven sqrt".split()]
    operations += [("math.copysign %x, %y : {t}", type), ("arith.negf %x : {t}", type)]
    operations += [("math.fma %x, %y, %x : {t}", type)] if targets.host().has_fma and type != "f16" else []
    widths = {"f16": 16, "f32": 32, "f64": 64}
    for other, width in widths.items():
        if width > widths[type]:
            operations.append(("arith.extf %x : {t} to {r}", other))
        elif width < widths[type]:
            operations.append(("arith.truncf %x : {t} to {r}", other))
    random = np.random.default_rng(0)
    tiny = np.finfo(TYPES[type]).smallest_subnormal
    edges = np.array([0, -0.0, 1, -2.5, np.inf, -np.inf, np.nan, tiny], TYPES[type])
    a = np.concatenate([np.repeat(edges, 8), (random.standard_normal(64) * 100).astype(TYPES[type])])
    b = np.concatenate([np.tile(edges, 8), (random.standard_normal(64) * 100).astype(TYPES[type])])
    outputs = [(128, TYPES[result]) for _, result in operations]
    agree(elementwise(operations, type, lanes), [a, b], outputs, threads=(1,))


@pytest.mark.parametrize("lanes", [None, 8])
def test_float_to_integer(agree, lanes):
    operations = [("arith.fptosi %x : {t} to {r}", "i32"), ("arith.fptosi %x : {t} to {r}", "i64"),
                  ("arith.fptoui %y : {t} to {r}", "i32"), ("arith.fptosi %x : {t} to {r}", "i16")]  # fmt: skip
    random = np.random.default_rng(0)
    a = (random.standard_normal(128) * 1000).astype(np.float32)
    b = abs(a) * 1000
    agree(elementwise(operations, "f32", lanes), [a, b], [(128, TYPES[r]) for _, r in operations], threads=(1,))


MATH = (
    "acos acosh asin asinh atan atanh cbrt cos cosh erf erfc exp exp2 expm1 log log10 log1p log2 rsqrt sin sinh"
    " sqrt tan tanh round roundeven"
).split()


@pytest.mark.parametrize(("type", "lanes"), [("f32", 8), ("f64", 4)])
def test_math_functions_become_the_same_polynomials(parse, type, lanes):
    """Expanded functions give the same bits interpreted and native, and are near the functions themselves."""
    operations = [(f"math.{name} %x : {{t}}", type) for name in MATH]
    operations += [(f"math.{name} %x, %y : {{t}}", type) for name in ("powf", "atan2")]
    random, dtype = np.random.default_rng(0), TYPES[type]
    edges = np.array([0, -0.0, 1, -1, 0.5, np.inf, -np.inf, np.nan, 88, -88, 710, -745, 1e-5, np.pi, -2, 1e5], dtype)
    a = np.concatenate([edges, random.uniform(-1, 1, 56), np.exp(random.uniform(-9, 9, 56))]).astype(dtype)
    b = np.concatenate([edges[::-1], random.uniform(-4, 4, 56), random.uniform(0, 70, 56)]).astype(dtype)
    module = parse(elementwise(operations, type, lanes))
    expanded = module.clone()
    ExpandMath().apply(expanded, context())
    expected, found = ([np.zeros(128, dtype) for _ in operations] for _ in range(2))
    Machine(module).call("forward", [a, b, *expected])
    Machine(expanded).call("forward", [a, b, *found])
    native = jit.build(expanded.clone(), targets.host())(a, b)
    for (name, _), want, have, real in zip(operations, expected, found, native, strict=True):
        np.testing.assert_array_equal(real, have, name)
        np.testing.assert_allclose(have, want, rtol=8 * np.finfo(dtype).eps, atol=0, err_msg=name)


PROGRAMS = {
    "masked tail": (
        """
        func.func private @k0(%x: memref<?xf32>, %y: memref<?xf32>) {
          %c0 = arith.constant 0 : index
          %c4 = arith.constant 4 : index
          %n = memref.dim %x, %c0 : memref<?xf32>
          scf.for %i = %c0 to %n step %c4 {
            %left = arith.subi %n, %i : index
            %m = vector.create_mask %left : vector<4xi1>
            %z = arith.constant dense<0.5> : vector<4xf32>
            %v = vector.maskedload %x[%i], %m, %z : memref<?xf32>, vector<4xi1>, vector<4xf32> into vector<4xf32>
            %w = vector.fma %v, %v, %z : vector<4xf32>
            vector.maskedstore %y[%i], %m, %w : memref<?xf32>, vector<4xi1>, vector<4xf32>
          }
          func.return
        }
        func.func @forward(%x: memref<?xf32>, %y: memref<?xf32> {host.kind = "output", host.shape = ["0.0"]})
            attributes {host.entry} {
          func.call @k0(%x, %y) : (memref<?xf32>, memref<?xf32>) -> ()
          func.return
        }""",
        [np.arange(11, dtype=np.float32)], [(11, np.float32)],
    ),
    "transpose and row sums through views": (
        """
        func.func @forward(%x: memref<6x5xf32>, %y: memref<5x6xf32> {host.kind = "output"},
                           %s: memref<3xf32> {host.kind = "output"}) attributes {host.entry} {
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          %c3 = arith.constant 3 : index
          %c5 = arith.constant 5 : index
          %c6 = arith.constant 6 : index
          %zero = arith.constant 0.0 : f32
          scf.for %i = %c0 to %c6 step %c1 {
            scf.for %j = %c0 to %c5 step %c1 {
              %v = memref.load %x[%i, %j] : memref<6x5xf32>
              memref.store %v, %y[%j, %i] : memref<5x6xf32>
            }
          }
          scf.for %i = %c0 to %c3 step %c1 {
            %row = memref.subview %y[%i, 1] [1, 3] [1, 2] : memref<5x6xf32> to memref<3xf32, strided<[2], offset: ?>>
            %t = scf.for %j = %c0 to %c3 step %c1 iter_args(%a = %zero) -> (f32) {
              %v = memref.load %row[%j] : memref<3xf32, strided<[2], offset: ?>>
              %b = arith.addf %a, %v : f32
              scf.yield %b : f32
            }
            memref.store %t, %s[%i] : memref<3xf32>
          }
          func.return
        }""",
        [np.arange(30, dtype=np.float32).reshape(6, 5)], [((5, 6), np.float32), (3, np.float32)],
    ),
    "while loop and scalars": (
        """
        func.func @forward(%n: i64, %x: f64, %on: i1) -> (i64, f64, i1) attributes {host.entry} {
          %one = arith.constant 1 : i64
          %zero = arith.constant 0 : i64
          %half = arith.constant 0.5 : f64
          %r:2 = scf.while (%i = %n, %a = %x) : (i64, f64) -> (i64, f64) {
            %more = arith.cmpi sgt, %i, %zero : i64
            scf.condition(%more) %i, %a : i64, f64
          } do {
          ^bb0(%i: i64, %a: f64):
            %j = arith.subi %i, %one : i64
            %b = arith.mulf %a, %half : f64
            scf.yield %j, %b : i64, f64
          }
          %small = arith.cmpf olt, %r#1, %half : f64
          %both = arith.andi %small, %on : i1
          %k = scf.if %both -> (i64) {
            scf.yield %n : i64
          } else {
            scf.yield %r#0 : i64
          }
          func.return %k, %r#1, %both : i64, f64, i1
        }""",
        [5, 3.0, True], [],
    ),
    "threads meet at barriers": (
        """
        func.func @forward(%x: memref<64xf32>, %y: memref<64xf32> {host.kind = "output"}) attributes {host.entry} {
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          %c63 = arith.constant 63 : index
          %c64 = arith.constant 64 : index
          %t = host.thread_id : index
          %n = host.thread_count : index
          %s = host.alloc(%c64) : memref<?xf32>
          scf.for %i = %t to %c64 step %n {
            %v = memref.load %x[%i] : memref<64xf32>
            %w = arith.addf %v, %v : f32
            memref.store %w, %s[%i] : memref<?xf32>
          }
          host.barrier
          scf.for %i = %t to %c64 step %n {
            %j = arith.subi %c63, %i : index
            %v = memref.load %s[%j] : memref<?xf32>
            memref.store %v, %y[%i] : memref<64xf32>
          }
          host.barrier
          host.free %s : memref<?xf32>
          func.return
        }""",
        [np.arange(64, dtype=np.float32)], [(64, np.float32)],
    ),
    "a result whose size is computed": (
        """
        func.func @forward(%x: memref<9xi64>, %limit: i64) -> (memref<?xi64>, i64) attributes {host.entry} {
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          %c9 = arith.constant 9 : index
          %n = scf.for %i = %c0 to %c9 step %c1 iter_args(%k = %c0) -> (index) {
            %v = memref.load %x[%i] : memref<9xi64>
            %keep = arith.cmpi slt, %v, %limit : i64
            %k1 = arith.addi %k, %c1 : index
            %next = arith.select %keep, %k1, %k : index
            scf.yield %next : index
          }
          %r = host.alloc(%n) : memref<?xi64>
          %t = host.thread_id : index
          %first = arith.cmpi eq, %t, %c0 : index
          scf.if %first {
            %m = scf.for %i = %c0 to %c9 step %c1 iter_args(%k = %c0) -> (index) {
              %v = memref.load %x[%i] : memref<9xi64>
              %keep = arith.cmpi slt, %v, %limit : i64
              %next = scf.if %keep -> (index) {
                memref.store %v, %r[%k] : memref<?xi64>
                %k1 = arith.addi %k, %c1 : index
                scf.yield %k1 : index
              } else {
                scf.yield %k : index
              }
              scf.yield %next : index
            }
          }
          host.barrier
          %count = arith.index_cast %n : index to i64
          func.return %r, %count : memref<?xi64>, i64
        }""",
        [np.array([5, 1, 9, 3, 3, 7, 0, 8, 2]), 5], [],
    ),
    "gathers, shuffles and reductions": (
        """
        func.func @forward(%x: memref<16xf32>, %i: memref<8xi32>, %y: memref<8xf32> {host.kind = "output"},
                           %s: memref<4xf32> {host.kind = "output"}) attributes {host.entry} {
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          %c2 = arith.constant 2 : index
          %c3 = arith.constant 3 : index
          %m = arith.constant dense<[true, true, false, true, true, true, false, true]> : vector<8xi1>
          %p = arith.constant dense<-1.0> : vector<8xf32>
          %k = vector.load %i[%c0] : memref<8xi32>, vector<8xi32>
          %g = vector.gather %x[%c0] [%k], %m, %p
            : memref<16xf32>, vector<8xi32>, vector<8xi1>, vector<8xf32> into vector<8xf32>
          %v = vector.load %x[%c2] : memref<16xf32>, vector<8xf32>
          %h = "vector.shuffle"(%g, %v) <{mask = array<i64: 8, 1, 10, 3, 7, 5, 4, 15>}>
            : (vector<8xf32>, vector<8xf32>) -> vector<8xf32>
          vector.store %h, %y[%c0] : memref<8xf32>, vector<8xf32>
          %a = vector.reduction <add>, %h : vector<8xf32> into f32
          %b = vector.reduction <maximumf>, %h : vector<8xf32> into f32
          %c = "vector.extract"(%h) <{static_position = array<i64: 3>}> : (vector<8xf32>) -> f32
          %d = vector.reduction <mul>, %g : vector<8xf32> into f32
          memref.store %a, %s[%c0] : memref<4xf32>
          memref.store %b, %s[%c1] : memref<4xf32>
          memref.store %c, %s[%c2] : memref<4xf32>
          memref.store %d, %s[%c3] : memref<4xf32>
          func.return
        }""",
        [np.arange(16, dtype=np.float32) + 1, np.array([3, 15, 99, 0, 7, 7, -5, 2], np.int32)],
        [(8, np.float32), (4, np.float32)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(agree, name):
    text, inputs, outputs = PROGRAMS[name]
    agree(text, inputs, outputs)


def test_raised_exceptions_are_the_same(parse):
    text = """
    func.func @forward(%n: i64, %x: f64) -> i64 attributes {host.entry} {
      %ten = arith.constant 10 : i64
      %bad = arith.cmpi sgt, %n, %ten : i64
      scf.if %bad {
        host.raise "builtins.ValueError", "{} is more than {{10}}, {}"(%n, %x : i64, f64)
      }
      func.return %n : i64
    }"""
    module = parse(text)
    lowered = jit.lower_module(module.clone(), targets.host())
    native = jit.build(module.clone(), targets.host())
    messages = []
    for run in (
        lambda *given: Machine(module).call("forward", list(given)),
        lambda *given: interpret_lowered(lowered, list(given)),
        lambda *given: native(*given),
    ):
        assert list(run(3, 0.25)) == [3]
        with pytest.raises(ValueError) as caught:
            run(11, 0.25)
        messages.append(str(caught.value))
    assert messages == ["11 is more than {10}, 0.25"] * 3


@pytest.mark.parametrize("type", ["bf16", "f16", "i1", "i8", "index"])
def test_constant_tables(parse, type):
    numbers = {"i1": "[true, false, true]", "bf16": "[0.5, -2.0, 1.0]", "f16": "[0.5, -2.0, 1.0]"}.get(type, "[1, -2, 3]")
    text = f"""
    "memref.global"() <{{sym_name = "table", sym_visibility = "private", type = memref<3x{type}>,
      initial_value = dense<{numbers}> : tensor<3x{type}>, constant}}> : () -> ()
    func.func @forward(%o: memref<3x{type}> {{host.kind = "output"}}) attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c3 = arith.constant 3 : index
      %t = memref.get_global @table : memref<3x{type}>
      scf.for %i = %c0 to %c3 step %c1 {{
        %v = memref.load %t[%i] : memref<3x{type}>
        memref.store %v, %o[%i] : memref<3x{type}>
      }}
      func.return
    }}"""
    module = parse(text)
    dtype = {"bf16": ml_dtypes.bfloat16, "index": np.int64}.get(type) or TYPES[type]
    expected = np.zeros(3, dtype)
    Machine(module).call("forward", [expected])
    (native,) = jit.build(module.clone(), targets.host())()
    assert expected.tobytes() == native.tobytes()
    assert expected.astype(float).tolist() in ([1, 0, 1], [0.5, -2, 1], [1, -2, 3])


@pytest.mark.skipif(not targets.host().has("avx512f"), reason="an instruction of AVX-512")
@pytest.mark.parametrize(("type", "lanes"), [("f32", 16), ("f64", 8)])
def test_scaling_by_powers_of_two_under_a_mask(agree, type, lanes):
    kind, chosen = f"vector<{lanes}x{type}>", 0x5A if lanes == 8 else 0x3C5A
    text = f"""
    func.func @forward(%a: memref<{lanes}x{type}>, %n: memref<{lanes}x{type}>,
        %o: memref<{lanes}x{type}> {{host.kind = "output"}}) attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %x = vector.load %a[%c0] : memref<{lanes}x{type}>, {kind}
      %y = vector.load %n[%c0] : memref<{lanes}x{type}>, {kind}
      %other = arith.constant dense<-3.0> : {kind}
      %mask = arith.constant {chosen} : i{lanes}
      %rounding = arith.constant 4 : i32
      %r = x86vector.avx512.mask.scalef %x, %y, %other, %mask, %rounding : {kind}
      vector.store %r, %o[%c0] : memref<{lanes}x{type}>, {kind}
      func.return
    }}"""
    a = np.linspace(-2, 3, lanes).astype(TYPES[type])
    n = np.resize([3, -2.5, 1100, -1074, 0, 0.75, 128, -149], lanes).astype(TYPES[type])
    (got,) = agree(text, [a, n], [(lanes, TYPES[type])], threads=(1,))
    with np.errstate(over="ignore"):
        scaled = np.ldexp(a, np.floor(n).astype(np.int32))
    np.testing.assert_array_equal(got, np.where(chosen >> np.arange(lanes) & 1, scaled, -3).astype(TYPES[type]))

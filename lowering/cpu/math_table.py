"""Coefficients and constants of the math functions, and the error that each is allowed.

Polynomials are minimax fits (Remez exchange at 50 digits) of what the name says, lowest power first, for the
relative error of the function itself. ln2 and pi/2 come in pieces, so that products with small integers are
exact, after Cody and Waite, "Software Manual for the Elementary Functions" (1980). The shape of the expansions
follows the Cephes library and fdlibm; erfc is that of Shepherd and Laframboise, "Chebyshev approximation of
(1+2x)exp(x^2)erfc(x) in 0 <= x < inf" (1981).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import f32, f64, i32, i64

Coefficients = tuple[float, ...]


@dataclass(frozen=True)
class Format:
    """A float format, and the coefficients that suffice for it."""

    float: Any
    integer: Any
    bits: int
    mantissa: int
    bias: int
    tiny: float
    """Smallest normal number."""
    exp: Coefficients
    """(exp(r) - 1 - r) / r^2 on |r| < ln2 / 2."""
    exp_range: tuple[float, float]
    """Below: 0. Above: infinity."""
    exp_normal_low: float
    """Above: normal numbers."""
    expm1_low: float
    """Below: -1."""
    ln2: tuple[float, float]
    log: Coefficients
    """f32: (log(1+f) - f + f^2/2) / f^3 on sqrt(1/2)-1 .. sqrt(2)-1.
    f64: (log((1+s)/(1-s)) / s - 2) / s^2 by powers of s^2."""
    sin: Coefficients
    """(sin(r)/r - 1) / r^2 by powers of r^2 on |r| < pi/4."""
    cos: Coefficients
    """(cos(r) - 1 + r^2/2) / r^4."""
    half_pi: tuple[float, float, float]
    trig_limit: float
    """Arguments of sin, cos, tan up to here are reduced in this format."""
    atan: Coefficients
    """(atan(t)/t - 1) / t^2 on |t| < tan(pi/8)."""
    asin: Coefficients
    """(asin(t)/t - 1) / t^2 on |t| < 1/2."""
    erf: Coefficients
    """erf(x) / x by powers of x^2 - K on |x| < `erf_high`. The f32 one ends a little above 1, which is cut off."""
    erf_center: float
    erf_high: float
    erfc: Coefficients
    """(1 + 2x) exp(x^2) erfc(x) by powers of (x - K) / (x + K)."""
    erfc_center: float
    erfc_high: float
    """Above: 0."""
    tanh_high: float
    """Above: 1."""
    tanh: tuple[Coefficients, Coefficients] | None
    """tanh(x) / x as a quotient by powers of x^2 on |x| < `tanh_high`, where it ends a little above 1, which is cut
    off. None: by exp, which more digits make cheaper."""
    cbrt_bias: int
    """Makes bits/3 a first guess of the cube root."""
    cbrt_steps: int


F32 = Format(
    float=f32, integer=i32, bits=32, mantissa=23, bias=127, tiny=2.0**-126,
    exp=(0.500000007589, 0.166666657681, 0.0416662651422, 0.0083335107288, 0.0013946865825, 0.000197881552684),
    exp_range=(-104.0, 89.0), exp_normal_low=-87.0, expm1_low=-18.0, ln2=(0.693359375, -2.12194440054690583e-4),
    log=(0.333333126049, -0.250000095891, 0.200021185863, -0.16667996047, 0.142195540173, -0.124055898386,
         0.118881531718, -0.116756315881, 0.0674662554422),
    sin=(-0.1666665459, 0.00833215505251, -0.000195140849269),
    cos=(0.041666646269, -0.00138873370948, 2.44348469951e-5),
    half_pi=(1.57079637050628662109375, -4.37113900018624283e-8, -1.71512451613e-15), trig_limit=4.0e6,
    atan=(-0.333333146764, 0.199984344782, -0.142427416956, 0.105873631506, -0.0606052671023),
    asin=(0.166667541276, 0.07495232713, 0.0454783432915, 0.0241409709085, 0.0422305977796),
    erf=(0.368184655905, -0.0249137300998, 0.0025096416939, -0.000275580649031, 3.06927431666e-05, -3.3470651033e-06,
         3.50260052073e-07, -3.44631381211e-08, 3.13024051124e-09, -2.76427464252e-10, 2.49174517825e-11,
         -1.7600551008e-12, 6.95846781888e-14, -6.37418889643e-15, 1.04852069782e-15, -5.37256090872e-17),
    erf_center=7.375, erf_high=3.85,
    erfc=(1.27697839397, -0.0927639850361, -0.166031461168, 0.164055425728, -0.0542038823616, -0.00806014352466,
          0.00863009270223, 0.00131330892103, -0.00122799731822, -0.000399446676776),
    erfc_center=2.0, erfc_high=10.2, tanh_high=8.7,
    tanh=((1.0, 0.1340999007, 0.003530191258, 2.118994053e-05, 1.419111317e-08),
          (1.0, 0.4674331248, 0.02600806952, 0.0003342666605, 8.111570651e-07)),
    cbrt_bias=709958130, cbrt_steps=2,
)  # fmt: skip

F64 = Format(
    float=f64, integer=i64, bits=64, mantissa=52, bias=1023, tiny=2.0**-1022,
    exp=(0.50000000000000000556, 0.16666666666666687048, 0.041666666666665969741, 0.0083333333333142649593,
         0.0013888888889154319659, 0.00019841269903271918969, 0.000024801586879576182796,
         2.7557227967361571319e-6, 2.7557603406915010004e-7, 2.51144394003063049e-8, 2.082460187663588201e-9),
    exp_range=(-746.0, 710.0), exp_normal_low=-708.0, expm1_low=-40.0, ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    log=(0.666666666666666605, 0.40000000000006701568, 0.28571428568940157236, 0.22222222668763408313,
         0.18181773906606287433, 0.15387167707658837188, 0.13248382193546995135, 0.13267120942001775562),
    sin=(-0.16666666666666629942, 0.0083333333333218689319, -0.00019841269829352834089,
         2.7557313528117736595e-6, -2.5050731613801868443e-8, 1.5895213781452408325e-10),
    cos=(0.041666666666666595436, -0.0013888888888873387787, 0.000024801587289001831292,
         -2.7557314208113203435e-7, 2.0875702986442725445e-9, -1.1358564604720081214e-11),
    half_pi=(1.57079632679489661923, 6.123233995736766036e-17, -1.4973849048591833e-33), trig_limit=2.0**50,
    atan=(-0.33333333333333333058, 0.1999999999999987306, -0.14285714285693809011, 0.11111111109445682221,
          -0.090909090108907522147, 0.076923052164185062371, -0.066666147542214142536, 0.058815931489531419762,
          -0.052552821067996094531, 0.047039937161524243226, -0.04049208142620473483, 0.029486190298356650735,
          -0.012862688214614213216),
    asin=(0.16666666666666763001, 0.074999999999700954836, 0.044642857175288826987, 0.030381942675154411947,
          0.022372215909194129837, 0.017351595445854169135, 0.013981019123743129062, 0.011397288741667195723,
          0.010789342599147193529, 0.0036721134926784419844, 0.021790800246402957653, -0.021116908506861321648,
          0.032702264507519172098),
    erf=(1.1283791670955125739, -0.3761263890318375237, 0.11283791670955119742, -0.026866170645129733532,
         0.0052239776254220859814, -0.00085483270218532013601, 0.00012055332899357821698,
         -0.000014925647465110833511, 1.6462043407599716411e-6, -1.6364614418249390507e-7,
         1.4792145719035877835e-8, -1.2163041701482617298e-9, 8.7037890631575641188e-11,
         -4.2228949703064973936e-12),
    erf_center=0.0, erf_high=1.0,
    erfc=(1.2329951186255525088, -0.13962111684056285763, 0.015379652102620139098, 0.068097054254733546713,
          -0.10103906603632352417, 0.093732834996914589806, -0.066330365812039364372, 0.037167515560699989817,
          -0.016197734054716711157, 0.0050319697706237697876, -0.00075777336144548625525,
          -0.0001992555796118391308, 0.00015062229021079366946, -0.000024402953655836973897,
          -0.000011224821555422401421, 5.7174981362915892968e-6, 3.012733439636917155e-7,
          -8.3476565903766166724e-7, 6.2888260655538155746e-8, 1.1516001847968439453e-7,
          -7.8420464056923941631e-9, -1.3649921285899121075e-8, -1.8001453259564063583e-9),
    erfc_center=4.0, erfc_high=27.3, tanh_high=19.1, tanh=None, cbrt_bias=3071306043645493248, cbrt_steps=3,
)  # fmt: skip

FORMATS = {f32: F32, f64: F64}


@dataclass(frozen=True)
class Accuracy:
    """The largest error of a function in units of the last place, measured where results are normal numbers."""

    f32: float
    f64: float


MATH: dict[str, Accuracy] = {
    "math.exp": Accuracy(2, 2),
    "math.exp2": Accuracy(2, 2),
    "math.expm1": Accuracy(3, 3),
    "math.log": Accuracy(2, 2),
    "math.log2": Accuracy(3, 3),
    "math.log10": Accuracy(3, 3),
    "math.log1p": Accuracy(3, 3),
    "math.tanh": Accuracy(5, 4),
    "math.sinh": Accuracy(4, 4),
    "math.cosh": Accuracy(4, 4),
    "math.asinh": Accuracy(5, 5),
    "math.acosh": Accuracy(5, 5),
    "math.atanh": Accuracy(4, 4),
    "math.sin": Accuracy(2, 2),
    "math.cos": Accuracy(2, 2),
    "math.tan": Accuracy(4, 4),
    "math.atan": Accuracy(3, 3),
    "math.atan2": Accuracy(4, 4),
    "math.asin": Accuracy(3, 3),
    "math.acos": Accuracy(3, 3),
    "math.erf": Accuracy(4, 3),
    "math.erfc": Accuracy(6, 8),
    "math.powf": Accuracy(2, 12),
    "math.fpowi": Accuracy(2, 12),
    "math.rsqrt": Accuracy(2, 2),
    "math.cbrt": Accuracy(2, 3),
    "math.round": Accuracy(0, 0),
}
"""What is promised for each op. `lowering/cpu/expand_math` holds the expansions, a test measures them.

f16 and bf16 are computed in f32. sin, cos and tan of |x| > 2^50 (f32 and f64) give NaN: such arguments have no
digit behind the point, and their reduction needs a thousand bits of pi.
"""

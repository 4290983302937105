"""Lists, tuples, dicts, optionals, texts, classes."""

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from stepwell_tests_semantics.table import case, t
from torch import Tensor


@case([t(3), 4], [t(3), 1], [t(3), 6])
def growing_list(x: Tensor, n: int):
    parts: List[Tensor] = []
    for i in range(n):
        parts.append(x + i)
    return torch.stack(parts), torch.cat(parts), parts[-1], len(parts)


@case([t(3), 4], [t(3), 2], [t(3), 7])
def growing_list_iterated(x: Tensor, n: int):
    parts: List[Tensor] = []
    for i in range(n):
        parts.append(x * i)
    total = torch.zeros(3)
    for p in parts:
        total = total + p
    for i in range(len(parts)):
        total = total - parts[i] / 2
    return total


@case([t(3), 4], [t(3), 2], [t(3), 7])
def growing_list_returned(x: Tensor, n: int):
    parts: List[Tensor] = []
    for i in range(n):
        parts.append(x * i)
    return parts


@case([t(5)], [t(8)])
def data_dependent_list(x: Tensor):
    kept: List[Tensor] = []
    for i in range(x.size(0)):
        if bool(x[i] > 0):
            kept.append(x[i])
    if len(kept) == 0:
        return x
    return torch.stack(kept)


@case([t(5)], [t(8)])
def list_of_ints(x: Tensor):
    kept: List[int] = []
    for i in range(x.size(0)):
        if bool(x[i] > 0):
            kept.append(i)
    return kept, len(kept)


@case([5], [0], [9])
def growing_ints(n: int):
    squares: List[int] = []
    for i in range(n):
        squares.append(i * i)
    total = 0
    for s in squares:
        total += s
    return total, len(squares)


@case([[3, 1, 2]], [[5]])
def list_methods(xs: List[int]):
    ys = xs.copy()
    ys.append(10)
    ys.insert(0, -1)
    ys.extend([7, 8])
    last = ys.pop()
    ys.reverse()
    ys.sort()
    ys.remove(10)
    return ys, last, ys.index(7), ys.count(7), 7 in ys, ys[1:-1], ys[::-1], ys + xs, ys * 2


@case([t(2), 3], [t(2), 1])
def list_comprehension(x: Tensor, n: int):
    return [x + i for i in range(3)], [i * n for i in range(4)], sum([float(i) for i in range(3)])


@case([t(2)], [t(4)])
def dicts(x: Tensor):
    d: Dict[str, Tensor] = {"a": x, "b": x * 2}
    d["c"] = d["a"] + d["b"]
    total = torch.zeros_like(x)
    for k, value in d.items():
        if k != "b":
            total += value
    return d, total, len(d), "a" in d, list(d.keys())


@case([{"x": t(2), "y": t(2)}], [{"x": t(3), "z": t(3)}])
def dict_argument(d: Dict[str, Tensor]):
    total = d["x"]
    if "y" in d:
        total = total + d["y"]
    return total, d.get("z")


@case([[1, 2, 1, 3]], [[4]])
def counting_dict(xs: List[int]):
    counts: Dict[int, int] = {}
    for x in xs:
        if x in counts:
            counts[x] += 1
        else:
            counts[x] = 1
    return counts


@case([t(3), 2], [t(3), 5])
def tuples(x: Tensor, n: int) -> Tuple[Tuple[Tensor, int], List[Tensor], str]:
    a = (x, n)
    b, c = a
    (d, e), f = (b + 1, c + 1), "text"
    return (d, e), [b, d], f


@case(["add", t(3)], ["mul", t(3)], ["none", t(3)])
def strings_choose(mode: str, x: Tensor):
    if mode == "add":
        return x + x
    elif mode in ["mul", "times"]:
        return x * x
    else:
        raise ValueError("no mode " + mode)


@case(["Hello World", 3], ["a,b", 0])
def string_methods(s: str, n: int):
    return (
        s.upper(), s.split(" "), len(s), s[0], s[1:3], s.replace("o", "0"), s + str(n), s.startswith("H"),
        "{} and {}".format(s, n), f"{n}:{s}", "%s-%d" % (s, n), " ".join([s, s]), s.find("b"),
    )  # fmt: skip


@case([t(2, 3), 4], [t(5, 3), 1])
def texts_with_sizes(x: Tensor, n: int):
    return f"{x.size(1)} by {n}", x


class Pair(NamedTuple):
    first: Tensor
    second: int


@case([t(2), 4], [t(2), 1])
def named_tuples(x: Tensor, n: int):
    p = Pair(x, n)
    q = Pair(second=p.second + 1, first=p.first * 2)
    return p.first + q.first, q.second, q


@torch.jit.script
class Counter:
    def __init__(self, start: int):
        self.value = start
        self.seen: List[int] = []

    def add(self, n: int) -> int:
        self.value += n
        self.seen.append(n)
        return self.value

    def __len__(self) -> int:
        return len(self.seen)


@case([3, [1, 2]], [0, []])
def class_with_state(start: int, xs: List[int]):
    c = Counter(start)
    for x in xs:
        c.add(x)
    return c.value, c.seen, len(c)


@torch.jit.script
class Running:
    def __init__(self, x: Tensor):
        self.total = torch.zeros_like(x)
        self.count = 0

    def update(self, x: Tensor):
        self.total += x
        self.count += 1

    def mean(self) -> Tensor:
        return self.total / self.count


@case([t(3), 4], [t(2), 1])
def class_with_tensors(x: Tensor, n: int):
    r = Running(x)
    for i in range(n):
        r.update(x + i)
    return r.mean(), r.count


@case([[t(2), t(3)]], [[t(1)]])
def list_argument(xs: List[Tensor]):
    total = 0.0
    for x in xs:
        total += float(x.sum())
    return total, torch.cat(xs), len(xs), xs


@case([[t(2), None]], [[None, None]])
def list_of_optionals(xs: List[Optional[Tensor]]):
    n = 0
    total = torch.zeros(2)
    for x in xs:
        if x is not None:
            total = total + x
            n += 1
    return total, n


@case([3], [12], [7])
def run_time_membership(n: int):
    return n in [1, 3, 5, 7], n not in (12, 13)


@case([t(5), 3], [t(5), 12])
def membership_of_tensor_value(x: Tensor, n: int):
    k = int(x[0] * 4)
    return k in [n, 3, -1], k


@case([t(4), 2], [t(4), 3])
def list_indexed_at_run_time(x: Tensor, n: int):
    scales = [0.5, 1.5, 2.5, 3.5]
    tensors = [x, x + 1, x + 2, x + 3]
    k = int(torch.argmax(x))
    return x * scales[n], tensors[n], scales[k], tensors[k]


@case([t(4), 2], [t(4), 9])
def list_index_out_of_range(x: Tensor, n: int):
    parts = [x, x + 1, x + 2]
    return parts[n]


@case([t(4), "b"], [t(4), "q"])
def missing_key(x: Tensor, k: str):
    d = {"a": x, "b": x * 2}
    return d[k]


@case([[[1, 2], [3]]], [[[]]])
def nested_lists(xs: List[List[int]]):
    flat: List[int] = []
    for x in xs:
        for y in x:
            flat.append(y)
    return flat, len(xs), [len(x) for x in xs]


@case([t(3)], [t(2)])
def aliases_in_lists(x: Tensor):
    a = [x]
    b = a
    b.append(x + 1)
    c = a.copy()
    c.append(x + 2)
    return len(a), len(b), len(c), a


@case([t(2, 3)], [t(4, 3)], dynamic="a growing list of tuples")
def list_of_tuples(x: Tensor):
    pairs: List[Tuple[int, Tensor]] = []
    for i in range(x.size(0)):
        pairs.append((i, x[i]))
    total = torch.zeros(3)
    for i, row in pairs:
        total += row * i
    return total


@case([t(3), 3], [t(3), 5])
def list_pop_and_set(x: Tensor, n: int):
    queue: List[Tensor] = [x]
    total = torch.zeros(3)
    for i in range(n):
        item = queue.pop(0)
        total = total + item
        queue.append(item * 0.5)
    queue[0] = total
    return queue[0]


@case([3, t(2)], [0, t(2)])
def stack_of_ints(n: int, x: Tensor):
    stack = [n]
    total = 0
    while len(stack) > 0:
        k = stack.pop()
        total += k
        if k > 0:
            stack.append(k - 1)
    return total


@case([t(2)], [t(3)])
def size_lists(x: Tensor):
    sizes = x.size()
    shape = list(x.shape)
    shape.append(4)
    return torch.zeros(shape), sizes[0], len(shape), x.shape[-1], x.dim()


@case([2.5, 3], [1e20, -1])
def number_texts(x: float, n: int):
    return str(n), f"{n + 1}", str(n > 0), int("12") + n, float("2.5") * x


@case([t(7), 3], [t(9), 20], [t(4), 0])
def growing_list_of_growing_tensors(x: Tensor, n: int):
    parts: List[Tensor] = []
    for i in range(n):
        parts.append(x[: i % 5])
    return parts, len(parts)


@case([t(20)], [t(31)])
def numbers_collected(x: Tensor):
    above: List[float] = []
    signs: List[bool] = []
    for i in range(x.size(0)):
        value = float(x[i])
        signs.append(value > 0)
        if value > 0:
            above.append(value)
    return above, sum(above), signs, len(above) + len(signs)


@case([t(20), 2], [t(31), -1])
def run_time_list_changed(x: Tensor, n: int):
    kept: List[int] = [n]
    for i in range(x.size(0)):
        if bool(x[i] > 0):
            kept.append(i)
    last = kept.pop()
    kept[0] = last * 2
    kept[-1] += 1
    return kept, last, max(kept), min(kept), last in kept, n in kept


@case([t(20)], [t(31)])
def list_or_other_list(x: Tensor):
    parts = [x, x + 1]
    if bool(x.sum() > 0):
        parts = [x * 2]
    return torch.stack(parts), len(parts)

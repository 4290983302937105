"""The kinds of steps: each method makes one, or None where no value suits it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from stepwell_tests_random_linalg.parts import Parts
from stepwell_tests_random_linalg.program import FLOATS, HALVES, Step, data


class Generator(Parts):
    """Makes the steps of one program."""


    def map(self, outputs=1):
        """Elementwise, with broadcasts and transposes of the operands."""
        first = self.pick()
        sizes = list(first.sizes)
        self.random.shuffle(sizes)
        for _ in range(self.random.choice([0, 0, 1])):
            sizes.insert(self.random.randint(0, len(sizes)), self.known_size())
        operands, maps = [first], [self.map_onto(first, sizes)]
        for _ in range(self.random.randint(0, 2)):
            other = self.pick(first.element)
            map = self.map_onto(other, sizes)
            if map is not None:
                operands.append(other)
                maps.append(map)
        made = [self.value(first.element, sizes) for _ in range(outputs)]
        leaves, lines = [f"%x{i}" for i in range(len(operands))], []
        inits, before, extra = [], [], []
        for place, value in enumerate(made):
            like = [v for v in self.values if v.sizes == value.sizes and v.element == value.element and v not in operands]
            if like and self.random.random() < 0.2:
                inits.append(self.random.choice(like).name)
                leaves.append(f"%o{place}")
                extra += [v for v in like if v.name == inits[-1]]
            else:
                name, line = self.empty(value)
                inits.append(name)
                before.append(line)
        if sizes and self.random.random() < 0.2 and first.element in ("f32", "i64"):
            leaves.append(self.position(first.element, self.random.randrange(len(sizes)), lines))
        names = [self.expression(first.element, leaves, lines) for _ in made]
        identity = [f"d{i}" for i in range(len(sizes))]
        text = self.generic([*maps, *[identity] * outputs], [False] * len(sizes), operands, made, inits, [*lines, names])
        return Step("map", (*before, *text), (*operands, *extra), tuple(made))

    def map2(self):
        """Two results of one generic."""
        return self.map(outputs=2)

    def position(self, element, loop, lines) -> str:
        """The position of a loop as a small number of the element type."""
        i, j, k = self.fresh("%i"), self.fresh("%i"), self.fresh("%i")
        lines += [f"{i} = linalg.index {loop} : index", f"{j} = arith.index_cast {i} : index to i64"]
        if element == "i64":
            return j
        scale, small = self.fresh("%c"), self.fresh("%i")
        lines += [f"{k} = arith.sitofp {j} : i64 to {element}", f"{scale} = arith.constant 0.125 : {element}",
                  f"{small} = arith.mulf {k}, {scale} : {element}"]  # fmt: skip
        return small

    def reduce(self):
        """Some dimensions of a value are reduced, in the order of a random permutation of the loops."""
        source = self.pick(rank=1)
        if source is None or source.element in HALVES:
            return None
        loops = source.rank
        order = self.random.sample(range(loops), loops)
        reduced = [self.random.random() < 0.5 for _ in range(loops)]
        if not any(reduced):
            reduced[self.random.randrange(loops)] = True
        place = {dim: loop for loop, dim in enumerate(order)}
        maps = [[f"d{place[dim]}" for dim in range(loops)]]
        kept = [dim for dim in range(loops) if not reduced[place[dim]]]
        self.random.shuffle(kept)
        made = self.value(source.element, [source.sizes[dim] for dim in kept])
        element = source.element
        count = math.prod(self.number(source.sizes[dim]) for dim in range(loops) if reduced[place[dim]])
        choices = {"i1": ["andi", "ori", "xori"]}.get(element, ["addi", "maxsi", "minsi", "muli"])
        if element in FLOATS:
            choices = ["addf", "maximumf", "minimumf"]
        op = self.random.choice(choices)
        starts = {"addf": "0.0", "maximumf": "-2.0", "minimumf": "2.0", "andi": "true", "ori": "false", "xori": "false",
                  "addi": "0", "muli": "1", "maxsi": "-100", "minsi": "100"}  # fmt: skip
        init, lines = self.filled(made, starts[op])
        body, term = [], "%x0"
        if op == "addf":
            body += [f"%scale = arith.constant {1 / max(1, count):.6e} : {element}",
                     f"%term = arith.mulf %x0, %scale : {element}"]  # fmt: skip
            term = "%term"
        operands = [term, "%o0"] if self.random.random() < 0.5 else ["%o0", term]
        body += [f"%r = arith.{op} {', '.join(operands)} : {element}", ["%r"]]
        text = self.generic([*maps, [f"d{place[dim]}" for dim in kept]], reduced, [source], [made], [init], body)
        return Step("reduce", (*lines, *text), (source,), (made,))

    def contract(self):
        """A sum of products over the loops that two values share."""
        a = self.pick("f32", "f64", "i64", "i32", rank=1)
        if a is None:
            return None
        b = self.pick(a.element, rank=1)
        loops = [("a", dim) for dim in range(a.rank)]
        map_a, map_b = list(range(a.rank)), []
        for dim, size in enumerate(b.sizes):
            shared = [loop for loop in range(a.rank) if a.sizes[loop] == size and loop not in map_b]
            if shared and (self.random.random() < 0.8 or not map_b):
                map_b.append(self.random.choice(shared))
            else:
                loops.append(("b", dim))
                map_b.append(len(loops) - 1)
        sizes = [a.sizes[dim] if which == "a" else b.sizes[dim] for which, dim in loops]
        shared = [loop for loop in range(a.rank) if loop in map_b]
        reduced_loops = {loop for loop in shared if self.random.random() < 0.6} or set(shared[:1])
        if not reduced_loops or len(loops) > 6 or math.prod(self.number(size) for size in sizes) > 50 * self.largest:
            return None
        order = self.random.sample(range(len(loops)), len(loops))
        place = {loop: new for new, loop in enumerate(order)}
        kept = [loop for loop in range(len(loops)) if loop not in reduced_loops]
        self.random.shuffle(kept)
        made = self.value(a.element, [sizes[loop] for loop in kept])
        floating = a.element in FLOATS
        init, lines = self.filled(made, "0.0" if floating else "0")
        letter = "f" if floating else "i"
        body = [f"%p = arith.mul{letter} %x0, %x1 : {a.element}", f"%r = arith.add{letter} %o0, %p : {a.element}", ["%r"]]
        maps = [[f"d{place[loop]}" for loop in part] for part in (map_a, map_b, kept)]
        text = self.generic(maps, [order[new] in reduced_loops for new in range(len(loops))], [a, b], [made], [init], body)
        steps = [*lines, *text]
        if floating:
            made, scaled = self.scaled_down(made, math.prod(self.number(sizes[loop]) for loop in reduced_loops))
            steps += scaled
        return Step("contract", tuple(steps), (a, b), (made,))

    def scaled_down(self, value, count):
        """The value divided by a count, so that sums stay near 1."""
        made = self.value(value.element, value.sizes)
        name, line = self.empty(made)
        identity = [f"d{i}" for i in range(value.rank)]
        body = [f"%s = arith.constant {1 / max(1, count):.6e} : {value.element}",
                f"%r = arith.mulf %x0, %s : {value.element}", ["%r"]]  # fmt: skip
        return made, [line, *self.generic([identity, identity], [False] * value.rank, [value], [made], [name], body)]

    def window(self):
        """A one- or two-dimensional convolution or pooling, with stride and dilation."""
        x = self.pick("f32", "f64", rank=2)
        if x is None:
            return None
        spatial = self.random.randint(1, min(2, x.rank - 1))
        if any(not isinstance(size, int) for size in x.sizes[-spatial:]):
            return None
        stride, dilation = self.random.choice([1, 1, 2]), self.random.choice([1, 1, 2])
        sizes = [self.random.randint(1, 3) for _ in range(spatial)]
        outer = x.rank - spatial
        outs = [(size - dilation * (k - 1) - 1) // stride + 1 for size, k in zip(x.sizes[outer:], sizes, strict=True)]
        if min(outs) < 1 or 0 in [self.number(size) for size in x.sizes]:
            return None
        kind = self.random.choice(["conv", "depthwise", "max", "sum"])
        # Loops: outer dimensions of x, output positions, [filters], window, [channels = last outer dimension].
        at = [f"d{outer + i} * {stride} + d{outer + spatial + i} * {dilation}" for i in range(spatial)]
        map_x = [*[f"d{i}" for i in range(outer)], *at]
        window = [f"d{outer + spatial + i}" for i in range(spatial)]
        reduced = [False] * (outer + spatial) + [True] * spatial
        element, lines = x.element, []
        map_o = [f"d{i}" for i in range(outer + spatial)]
        made_sizes = [*x.sizes[:outer], *outs]
        if kind in ("max", "sum"):
            w = self.value(element, sizes)
            name, line = self.empty(w)
            lines.append(line)
            w = replace(w, name=name)
            map_w = window
        elif kind == "depthwise":
            w, more = self.weight(element, [x.sizes[outer - 1], *sizes])
            if w is None:
                return None
            lines += more[0]
            map_w = [f"d{outer - 1}", *window]
        else:
            filters = self.random.choice([1, 3, 8])
            w, more = self.weight(element, [filters, x.sizes[outer - 1], *sizes])
            if w is None:
                return None
            lines += more[0]
            loop = outer + 2 * spatial
            map_w = [f"d{loop}", f"d{outer - 1}", *window]
            map_o = [*[f"d{i}" for i in range(outer - 1)], f"d{loop}", *[f"d{outer + i}" for i in range(spatial)]]
            made_sizes = [*x.sizes[: outer - 1], filters, *outs]
            reduced[outer - 1] = True
            reduced.append(False)
        made = self.value(element, made_sizes)
        init, more_lines = self.filled(made, "-2.0" if kind == "max" else "0.0")
        if kind == "max":
            body = [f"%r = arith.maximumf %o0, %x0 : {element}", ["%r"]]
        elif kind == "sum":
            body = [f"%r = arith.addf %x0, %o0 : {element}", ["%r"]]
        else:
            body = [f"%p = arith.mulf %x0, %x1 : {element}", f"%r = arith.addf %p, %o0 : {element}", ["%r"]]
        resources = more[1] if kind in ("conv", "depthwise") else {}
        lines += [*more_lines, *self.generic([map_x, map_w, map_o], reduced, [x, w], [made], [init], body)]
        if kind != "max":
            channels = self.number(x.sizes[outer - 1]) if kind == "conv" else 1
            made, scaled = self.scaled_down(made, math.prod(sizes) * channels)
            lines += scaled
        return Step("window", tuple(lines), (x,), (made,), resources)

    def weight(self, element, sizes):
        """A resource constant; None for a dynamic size."""
        if any(isinstance(size, str) for size in sizes):
            return None, None
        value = self.value(element, sizes)
        name = f"w{value.name[2:]}"
        array = data(np.random.default_rng((self.seed, int(value.name[2:]))), sizes, element)
        return value, ([f"{value.name} = arith.constant dense_resource<{name}> : {value.type}"], {name: array})

    def argmax(self):
        """Value and place of the greatest element of integers: a reduction of two results that no ufunc does."""
        source = self.pick("i64", "i32", "i8", rank=1)
        if source is None:
            return None
        axis = self.random.randrange(source.rank)
        kept = [dim for dim in range(source.rank) if dim != axis]
        best = self.value(source.element, [source.sizes[dim] for dim in kept])
        where = self.value("i64", best.sizes)
        init, lines = self.filled(best, "-100")
        zero, more = self.filled(where, "0")
        body = [
            f"%i = linalg.index {axis} : index", "%j = arith.index_cast %i : index to i64",
            f"%more = arith.cmpi sgt, %x0, %o0 : {source.element}",
            f"%v = arith.select %more, %x0, %o0 : {source.element}", "%k = arith.select %more, %j, %o1 : i64",
            ["%v", "%k"],
        ]  # fmt: skip
        identity = [f"d{i}" for i in range(source.rank)]
        maps = [identity, *[[f"d{dim}" for dim in kept]] * 2]
        reduced = [dim == axis for dim in range(source.rank)]
        text = self.generic(maps, reduced, [source], [best, where], [init, zero], body)
        return Step("argmax", (*lines, *more, *text), (source,), (best, where))

    def gather(self):
        """Rows of a table by computed indices, which are brought into range."""
        table, indices = self.pick(rank=1), self.pick("i64", "i32", "i8")
        if table is None or indices is None or 0 in [self.number(size) for size in table.sizes]:
            return None
        sizes = [*indices.sizes, *table.sizes[1:]]
        if len(sizes) > 5:
            return None
        made = self.value(table.element, sizes)
        name, line = self.empty(made)
        first = self.number(table.sizes[0])
        size = "%size" if isinstance(table.sizes[0], int) else f"%{table.sizes[0]}"
        body = [] if size != "%size" else [f"%size = arith.constant {first} : index"]
        body += [f"%j = arith.index_cast %x0 : {indices.element} to index", f"%k = arith.remui %j, {size} : index"]
        rest = [f"%q{i}" for i in range(table.rank - 1)]
        body += [f"{q} = linalg.index {indices.rank + i} : index" for i, q in enumerate(rest)]
        body += [f"%v = tensor.extract {table.name}[{', '.join(['%k', *rest])}] : {table.type}", ["%v"]]
        maps = [[f"d{i}" for i in range(indices.rank)], [f"d{i}" for i in range(len(sizes))]]
        text = self.generic(maps, [False] * len(sizes), [indices], [made], [name], body)
        return Step("gather", (line, *text), (table, indices), (made,))

    def slice(self):
        """A strided slice of static bounds, perhaps without its unit dimensions."""
        x = self.pick(rank=1)
        if x is None or 0 in [self.number(size) for size in x.sizes]:
            return None
        offsets, sizes, strides = self.place_in(x)
        made = self.value(x.element, sizes)
        drop = [dim for dim, size in enumerate(sizes) if size == 1 and self.random.random() < 0.3]
        if drop:
            made = self.value(x.element, [size for dim, size in enumerate(sizes) if dim not in drop])
        bounds = " ".join(str(part) for part in (offsets, sizes, strides))
        bounds = self.size_names(bounds)
        line = f"{made.name} = tensor.extract_slice {x.name}{bounds} : {x.type} to {made.type}"
        return Step("slice", (line,), (x,), (made,))

    def place_in(self, x):
        """Offsets, sizes and strides of a part of x; dynamic dimensions are taken whole."""
        offsets, sizes, strides = [], [], []
        for size in x.sizes:
            if isinstance(size, str):
                offsets.append(0), sizes.append(size), strides.append(1)
                continue
            stride = self.random.choice([1, 1, 1, 2, 3])
            offset = self.random.randrange(size)
            offsets.append(offset), strides.append(stride)
            sizes.append(self.random.randint(1, (size - offset - 1) // stride + 1))
        return offsets, sizes, strides

    def size_names(self, text) -> str:
        """Python's lists of sizes as MLIR has them."""
        return text.replace("'n", "%n").replace("'", "").replace("] [", "] [")

    def update(self):
        """A slice of one value replaced by another one (made by a slice of a third, or a fill)."""
        x = self.pick(rank=1)
        if x is None or 0 in [self.number(size) for size in x.sizes]:
            return None
        offsets, sizes, strides = self.place_in(x)
        part = self.value(x.element, sizes)
        same = [v for v in self.values if v.sizes == part.sizes and v.element == part.element and v != x]
        lines, operands = [], [x]
        if same:
            part = self.random.choice(same)
            operands.append(part)
        else:
            name, lines = self.filled(part, self.number_text(x.element))
            part = replace(part, name=name)
        made = self.value(x.element, x.sizes)
        bounds = self.size_names(" ".join(str(item) for item in (offsets, sizes, strides)))
        lines.append(f"{made.name} = tensor.insert_slice {part.name} into {x.name}{bounds} : {part.type} into {made.type}")
        return Step("update", tuple(lines), tuple(operands), (made,))

    def reshape(self):
        """Neighbouring dimensions joined, or one split."""
        x = self.pick(rank=1)
        if x is None:
            return None
        if x.rank > 1 and self.random.random() < 0.5:
            first = self.random.randrange(x.rank - 1)
            if any(isinstance(size, str) for size in x.sizes[first : first + 2]):
                return None
            joined = x.sizes[first] * x.sizes[first + 1]
            made = self.value(x.element, [*x.sizes[:first], joined, *x.sizes[first + 2 :]])
            groups = [[i] for i in range(first)] + [[first, first + 1]] + [[i] for i in range(first + 2, x.rank)]
            return Step("reshape", (f"{made.name} = tensor.collapse_shape {x.name} {groups} : {x.type} into {made.type}",),
                        (x,), (made,))  # fmt: skip
        place = self.random.randrange(x.rank)
        size = x.sizes[place]
        if isinstance(size, str):
            return None
        factor = self.random.choice([f for f in range(1, size + 1) if size % f == 0] or [1])
        split = [factor, size // factor] if self.random.random() < 0.5 else [size // factor, factor]
        made = self.value(x.element, [*x.sizes[:place], *split, *x.sizes[place + 1 :]])
        groups = [[i] for i in range(place)] + [[place, place + 1]] + [[i + 1] for i in range(place + 1, x.rank)]
        shape = self.size_names(str(list(made.sizes)))
        line = f"{made.name} = tensor.expand_shape {x.name} {groups} output_shape {shape} : {x.type} into {made.type}"
        return Step("reshape", (line,), (x,), (made,))

    def fill(self):
        made = self.value(self.random.choice(self.types), [self.known_size() for _ in range(self.random.randint(0, 3))])
        name, lines = self.filled(made, self.number_text(made.element))
        return Step("fill", tuple(lines), (), (replace(made, name=name),))

    def iota(self):
        """Positions along a dimension."""
        sizes = [self.known_size() for _ in range(self.random.randint(1, 3))]
        made = self.value(self.random.choice([t for t in self.types if t in ("f32", "i64")] or ["i64"]), sizes)
        name, line = self.empty(made)
        lines: list = []
        value = self.position(made.element, self.random.randrange(len(sizes)), lines)
        identity = [f"d{i}" for i in range(len(sizes))]
        text = self.generic([identity], [False] * len(sizes), [], [made], [name], [*lines, [value]])
        return Step("iota", (line, *text), (), (made,))

    def constant(self):
        """A splat, or a resource."""
        element = self.random.choice(self.types)
        sizes = [self.random.choice([1, 2, 3, 5, 8]) for _ in range(self.random.randint(0, 3))]
        value, (lines, resources) = self.weight(element, sizes)
        if self.random.random() < 0.3:
            return Step("constant", (f"{value.name} = arith.constant dense<{self.number_text(element)}> : {value.type}",),
                        (), (value,))  # fmt: skip
        return Step("constant", tuple(lines), (), (value,), resources)

    CASTS = {  # noqa: RUF012
        ("f32", "f64"): "extf", ("f64", "f32"): "truncf", ("f16", "f32"): "extf", ("f32", "f16"): "truncf",
        ("bf16", "f32"): "extf", ("f32", "bf16"): "truncf", ("i64", "i32"): "trunci", ("i32", "i64"): "extsi",
        ("i8", "i64"): "extsi", ("i64", "i8"): "trunci", ("i1", "i32"): "extui", ("i1", "f32"): "uitofp",
    }  # fmt: skip

    def convert(self):
        """Another element type."""
        x = self.pick()
        choices = [(to, op) for (source, to), op in self.CASTS.items() if source == x.element]
        if not choices:
            return None
        to, op = self.random.choice(choices)
        made = self.value(to, x.sizes)
        name, line = self.empty(made)
        identity = [f"d{i}" for i in range(x.rank)]
        body = [f"%r = arith.{op} %x0 : {x.element} to {to}", ["%r"]]
        return Step("convert", (line, *self.generic([identity] * 2, [False] * x.rank, [x], [made], [name], body)),
                    (x,), (made,))  # fmt: skip

    def branch_of(self, x):
        """A small elementwise computation on x, as lines and the name of its result."""
        made = self.value(x.element, x.sizes)
        name, line = self.empty(made)
        identity = [f"d{i}" for i in range(x.rank)]
        lines: list = []
        value = self.expression(x.element, ["%x0"], lines)
        text = self.generic([identity] * 2, [False] * x.rank, [x], [made], [name], [*lines, [value]])
        return [line, *text], made.name

    def condition(self):
        """A scalar i1 from an element of a value (0 where it is empty), as lines and name."""
        x = self.pick("i1", "i64", "i32", "i8")
        if x is None or 0 in [self.number(size) for size in x.sizes]:
            return None
        zero, scalar, flag = self.fresh("%c"), self.fresh("%s"), self.fresh("%p")
        lines = [f"{zero} = arith.constant 0 : index",
                 f"{scalar} = tensor.extract {x.name}[{', '.join([zero] * x.rank)}] : {x.type}"]  # fmt: skip
        if x.element == "i1":
            return lines, scalar, x
        bound, line = self.constant_lines(x.element)
        return [*lines, line, f"{flag} = arith.cmpi slt, {scalar}, {bound} : {x.element}"], flag, x

    def if_(self):
        """One of two computations."""
        x, condition = self.pick(), self.condition()
        if condition is None:
            return None
        lines, flag, read = condition
        made = self.value(x.element, x.sizes)
        (then, a), (otherwise, b) = self.branch_of(x), self.branch_of(x)
        if self.random.random() < 0.3:
            otherwise, b = [], x.name
        text = [f"{made.name} = scf.if {flag} -> ({x.type}) {{", *then, f"scf.yield {a} : {x.type}", "} else {",
                *otherwise, f"scf.yield {b} : {x.type}", "}"]  # fmt: skip
        return Step("if", (*lines, *text), (x, read), (made,))

    def for_(self):
        """A computation repeated a few times, with a number that follows along."""
        x = self.pick()
        made = self.value(x.element, x.sizes)
        low, high, one, i, carried = (self.fresh("%c") for _ in range(5))
        body, result = self.branch_of(replace(x, name=carried))
        text = [
            f"{low} = arith.constant 0 : index", f"{high} = arith.constant {self.random.randint(0, 3)} : index",
            f"{one} = arith.constant 1 : index",
            f"{made.name} = scf.for {i} = {low} to {high} step {one} iter_args({carried} = {x.name}) -> ({x.type}) {{",
            *body, f"scf.yield {result} : {x.type}", "}",
        ]  # fmt: skip
        return Step("for", tuple(text), (x,), (made,))


setattr(Generator, "if", Generator.if_)
setattr(Generator, "for", Generator.for_)



"""What the steps are made of: sizes, values, generics, bodies."""

from __future__ import annotations

import itertools
import math
import random

from stepwell_tests_random_linalg.program import FLOATS, HALVES, Program, Step, Value


def literal(number, element) -> str:
    """arith.constant of a number's text."""
    return f"arith.constant {number}" if element == "i1" else f"arith.constant {number} : {element}"


SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17)


class Parts:
    """Makes the steps of one program."""

    def __init__(self, seed, *, kinds=None, types=None, steps=None, dynamic=0.3, control=True, sizes=SIZES, largest=4000):
        self.random = random.Random(seed)
        self.seed = seed
        self.types = types or self.random.choice(
            [("f32",), ("f32",), ("f32", "i64"), ("f32", "i32", "i1"), ("f64", "f32"), ("f32", "f16"), ("f32", "bf16"),
             ("i64", "i8", "f32")]
        )  # fmt: skip
        self.dynamic = dynamic if self.random.random() < 0.5 else 0
        self.names = itertools.count()
        self.actual: dict[str, int] = {}
        self.inputs: list[Value] = []
        self.steps: list[Step] = []
        self.values: list[Value] = []
        self.control = control
        self.sizes, self.largest = sizes, largest
        self.kinds = kinds or [
            "map", "map", "map", "map2", "reduce", "contract", "window", "argmax", "gather", "slice", "update",
            "reshape", "fill", "iota", "constant", "convert", *(["if", "for"] if control else []),
        ]  # fmt: skip
        for _ in range(self.random.randint(1, 4)):
            self.add_input()
        wanted = steps or self.random.randint(1, 8)
        while len(self.steps) < wanted:
            step = getattr(self, self.random.choice(self.kinds))()
            if step is not None and all(self.count(v) <= largest for v in step.results):
                self.steps.append(step)
                self.values += step.results

    def program(self) -> Program:
        results = [self.steps[-1].results[0]]
        for value in self.random.sample(self.values, min(2, len(self.values))):
            if value not in results and value not in self.inputs:
                results.append(value)
        program = Program(self.seed, tuple(self.inputs), tuple(self.steps), tuple(results), self.actual)
        return program.slice(tuple(results))

    # Parts.

    def fresh(self, prefix="%v") -> str:
        return f"{prefix}{next(self.names)}"

    def value(self, element, sizes) -> Value:
        return Value(self.fresh(), element, tuple(sizes))

    def number(self, size) -> int:
        return size if isinstance(size, int) else self.actual[size]

    def count(self, value) -> int:
        return math.prod(self.number(size) for size in value.sizes)

    def size(self):
        """A new size: mostly small, seldom 0 or 1, perhaps dynamic, perhaps one that exists."""
        known = [s for v in self.values for s in v.sizes]
        if known and self.random.random() < 0.5:
            return self.random.choice(known)
        number = self.random.choice([*self.sizes, *[0] * (self.random.random() < 0.1)])
        if self.random.random() < self.dynamic:
            name = f"n{len(self.actual)}"
            self.actual[name] = number
            return name
        return number

    def add_input(self) -> Value:
        value = self.value(self.random.choice(self.types), [self.size() for _ in range(self.random.randint(0, 4))])
        if self.count(value) > self.largest // 2:
            return self.add_input()
        self.inputs.append(value)
        self.values.append(value)
        return value

    def known_size(self):
        """A size that some value has, or a constant: never a new dynamic one (those come with inputs)."""
        known = [s for v in self.values for s in v.sizes]
        return self.random.choice(known) if known and self.random.random() < 0.7 else self.random.choice([1, 2, 3, 8])

    def pick(self, *elements, rank=None) -> Value | None:
        """A value of one of some element types."""
        fitting = [v for v in self.values if (not elements or v.element in elements) and (rank is None or v.rank >= rank)]
        return self.random.choice(fitting) if fitting else None

    def empty(self, value) -> tuple[str, str]:
        """A name and the line that makes an uninitialised tensor like `value`."""
        name = self.fresh("%e")
        dynamic = ", ".join(f"%{s}" for s in value.sizes if isinstance(s, str))
        return name, f"{name} = tensor.empty({dynamic}) : {value.type}"

    def filled(self, value, number) -> tuple[str, list[str]]:
        """A tensor like `value`, full of one number."""
        name, line = self.empty(value)
        scalar, full = self.fresh("%c"), self.fresh("%f")
        return full, [
            line,
            f"{scalar} = {literal(number, value.element)}",
            f"{full} = linalg.fill ins({scalar} : {value.element}) outs({name} : {value.type}) -> {value.type}",
        ]

    def number_text(self, element) -> str:
        if element == "i1":
            return self.random.choice(["true", "false"])
        if element in FLOATS:
            return self.random.choice(["0.5", "-0.25", "1.0", "0.0"])
        return str(self.random.randint(-3, 3))

    def constant_lines(self, element) -> tuple[str, str]:
        name = self.fresh("%c")
        return name, f"{name} = {literal(self.number_text(element), element)}"

    def generic(self, maps, reduced, operands, outputs, inits, body) -> list[str]:
        """The lines of a linalg.generic; `body` are its lines, ending with the names it yields."""
        loops = len(reduced)
        dims = ", ".join(f"d{i}" for i in range(loops))
        map_text = ", ".join(f"affine_map<({dims}) -> ({', '.join(map)})>" for map in maps)
        kinds = ", ".join(f'"{"reduction" if flag else "parallel"}"' for flag in reduced)
        ins = ""
        if operands:
            ins = f"ins({', '.join(v.name for v in operands)} : {', '.join(v.type for v in operands)}) "
        types = ", ".join(v.type for v in outputs)
        arguments = [f"%x{i}: {v.element}" for i, v in enumerate(operands)]
        arguments += [f"%o{i}: {v.element}" for i, v in enumerate(outputs)]
        *lines, yielded = body
        inner = "\n".join(f"    {line}" for line in lines)
        left = outputs[0].name if len(outputs) == 1 else f"{outputs[0].name}_all:{len(outputs)}"
        text = (
            f"{left} = linalg.generic {{indexing_maps = [{map_text}], iterator_types = [{kinds}]}} {ins}"
            f"outs({', '.join(inits)} : {types}) {{\n  ^bb0({', '.join(arguments)}):\n{inner}\n"
            f"    linalg.yield {', '.join(yielded)} : {', '.join(v.element for v in outputs)}\n}} -> {types}"
        )
        if len(outputs) > 1:
            # Each result under a name of its own, as other steps expect.
            text += "".join(
                f"\n{v.name} = tensor.cast {outputs[0].name}_all#{i} : {v.type} to {v.type}" for i, v in enumerate(outputs)
            )
        return text.split("\n")

    def expression(self, element, leaves, lines) -> str:
        """Lines that combine `leaves` (names of one element type) into one value; its name."""
        if element in HALVES:
            # Kept in 16 bits, computed in 32, as programs are by the time they are linalg.
            wide = [self.fresh("%t") for _ in leaves]
            lines += [f"{w} = arith.extf {x} : {element} to f32" for w, x in zip(wide, leaves, strict=True)]
            total, name = self.expression("f32", wide, lines), self.fresh("%t")
            lines.append(f"{name} = arith.truncf {total} : f32 to {element}")
            return name
        pool = list(leaves)
        for _ in range(self.random.randint(1, 4)):
            a, b, name = self.random.choice(pool), self.random.choice(pool), self.fresh("%t")
            if element in FLOATS:
                op = self.random.choice(["addf", "subf", "mulf", "maximumf", "minimumf", "absf", "negf", "tanh", "const"])
                if op in ("absf", "tanh"):
                    lines.append(f"{name} = math.{op} {a} : {element}")
                elif op == "negf":
                    lines.append(f"{name} = arith.negf {a} : {element}")
                elif op == "const":
                    constant, line = self.constant_lines(element)
                    lines += [line, f"{name} = arith.mulf {a}, {constant} : {element}"]
                else:
                    lines.append(f"{name} = arith.{op} {a}, {b} : {element}")
            elif element == "i1":
                lines.append(f"{name} = arith.{self.random.choice(['andi', 'ori', 'xori'])} {a}, {b} : i1")
            else:
                op = self.random.choice(["addi", "subi", "muli", "maxsi", "minsi", "andi", "xori", "maxui", "select"])
                if op == "select":
                    flag = self.fresh("%p")
                    predicate = self.random.choice(["slt", "eq", "uge", "ne"])
                    lines += [f"{flag} = arith.cmpi {predicate}, {a}, {b} : {element}",
                              f"{name} = arith.select {flag}, {a}, {b} : {element}"]  # fmt: skip
                else:
                    lines.append(f"{name} = arith.{op} {a}, {b} : {element}")
            pool.append(name)
        if element in FLOATS and self.random.random() < 0.7:
            # Keeps numbers near 1.
            name = self.fresh("%t")
            lines.append(f"{name} = math.tanh {pool[-1]} : {element}")
            return name
        return pool[-1]

    def map_onto(self, value, sizes):
        """An indexing map that reads `value` from loops of `sizes`: each dimension by a loop of its size, or 0."""
        map, free = [], list(range(len(sizes)))
        for size in value.sizes:
            fitting = [loop for loop in free if sizes[loop] == size]
            if size == 1 and (not fitting or self.random.random() < 0.5):
                map.append("0")
            elif fitting:
                loop = self.random.choice(fitting)
                free.remove(loop)
                map.append(f"d{loop}")
            else:
                return None
        return map

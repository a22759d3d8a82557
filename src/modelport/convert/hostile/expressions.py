"""Strings in a `torch.export` program that torch evaluates as Python, held to arithmetic on sizes.

`sympy.sympify` evaluates the expressions of symbolic sizes (`expr_str`), and `exec` runs the guards
(`guards_code`); both would run any code. Here the text is parsed, not evaluated, and its syntax tree may hold
numbers, symbols, operators, and calls of the functions below.
"""

from __future__ import annotations

import ast
import re

from modelport.convert.hostile.refusals import Place, words

MAX_LENGTH = 4096
MAX_EXPONENT = 64
MAX_POWERS = 4

_SYMBOLIC_CALLS = words(
    """
    Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs floor ceiling
    Equality Unequality StrictLessThan StrictGreaterThan LessThan GreaterThan Eq Ne Lt Le Gt Ge And Or Not
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow
    FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat
    Identity
    """
)
_GUARD_CALLS = words("abs max min round IsNonOverlappingAndDenseIndicator cast_symbool_to_symint_guardless")
_GUARD_METHODS = words("size stride storage_offset item dim numel")
_GUARD_FUNCTIONS = {
    "math": re.compile(r"[a-z][a-z0-9]*"),
    "torch": re.compile(r"_?sym_[a-z]+"),
}
# Calls with text: a symbol's name, or digits.
_TEXT_CALLS = {
    "Symbol": re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}"),
    "Float": re.compile(r"[-+0-9.einfa]{1,64}"),
    "Integer": re.compile(r"-?[0-9]{1,19}"),
    "Rational": re.compile(r"-?[0-9]{1,19}"),
}
_POWERS = words("Pow PowByNatural FloatPow LShift RShift")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_SYNTAX: tuple[type[ast.AST], ...] = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.BoolOp, ast.And, ast.Or),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


def is_symbolic(text: str) -> bool:
    """Whether a text is arithmetic on symbols, as `sympy.srepr` prints it."""
    return _holds(text, guard=False)


def is_guard(text: str) -> bool:
    """Whether a text is a condition on the sizes of inputs, such as `L['x'].size()[0] > 3`."""
    return _holds(text, guard=True)


def check_symbolic(text: str, place: Place) -> None:
    """Refuse an `expr_str` that is not arithmetic."""
    if not is_symbolic(text):
        raise _refusal("a symbolic size", text, place)


def check_guard(text: str, place: Place) -> None:
    """Refuse a guard that is not a condition on sizes."""
    if not is_guard(text):
        raise _refusal("a guard", text, place)


def _refusal(what: str, text: str, place: Place) -> Exception:
    return place.unsafe(
        f"{what} says {text[:100]!r}", why="torch evaluates this text as Python; it may be arithmetic only"
    )


def _holds(text: str, *, guard: bool) -> bool:
    if len(text) > MAX_LENGTH or not text.isascii() or '"' in text or "\\" in text or not text.isprintable():
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    nodes = list(ast.walk(tree))
    syntax = (*_SYNTAX, ast.Subscript, ast.Attribute) if guard else _SYNTAX
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    texts = {id(leaf) for node in nodes for leaf in _texts(node, guard)}
    return (
        all(isinstance(node, syntax) for node in nodes)
        and all(_is_known_call(node, guard) for node in nodes if isinstance(node, ast.Call))
        and all(id(node) in called for node in nodes if isinstance(node, ast.Attribute))
        and all(_NAME.fullmatch(node.id) for node in nodes if isinstance(node, ast.Name))
        and all(id(node) in texts or _is_number(node.value) for node in nodes if isinstance(node, ast.Constant))
        and _are_small_powers(nodes)
    )


def _texts(node: ast.AST, guard: bool) -> list[ast.Constant]:
    """The string constants directly below a node that are allowed there."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TEXT_CALLS:
        pattern, leaves = _TEXT_CALLS[node.func.id], node.args
    elif guard and isinstance(node, ast.Subscript):
        pattern, leaves = _KEY, [node.slice]
    else:
        return []
    found = [leaf for leaf in leaves if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)]
    return [leaf for leaf in found if pattern.fullmatch(str(leaf.value))]


def _is_number(value: object) -> bool:
    return isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64)


def _is_known_call(node: ast.Call, guard: bool) -> bool:
    function = node.func
    if isinstance(function, ast.Name):
        known = function.id in (_GUARD_CALLS if guard else _SYMBOLIC_CALLS)
        return known and (function.id in _TEXT_CALLS or not node.keywords)
    if not guard or not isinstance(function, ast.Attribute) or node.keywords:
        return False
    if isinstance(function.value, ast.Name) and function.value.id in _GUARD_FUNCTIONS:
        return bool(_GUARD_FUNCTIONS[function.value.id].fullmatch(function.attr))
    return function.attr in _GUARD_METHODS


def _are_small_powers(nodes: list[ast.AST]) -> bool:
    """Whether powers stay small enough to compute."""
    exponents: list[ast.AST] = [
        node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    ]
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS:
            exponents += node.args[1:]
    return len(exponents) <= MAX_POWERS and all(_is_small(exponent) for exponent in exponents)


def _is_small(exponent: ast.AST) -> bool:
    """Whether every number in an exponent is small, and it holds no calculation."""
    for node in ast.walk(exponent):
        if isinstance(node, ast.BinOp):
            return False
        if isinstance(node, ast.Call) and (not isinstance(node.func, ast.Name) or node.func.id not in _TEXT_CALLS):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and abs(node.value) > MAX_EXPONENT:
            return False
    return True

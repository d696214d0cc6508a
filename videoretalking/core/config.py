"""Strict configuration: YAML files plus ``key=value`` overrides -> frozen dataclass.

The dataclass beside its owner holds every default; a YAML file holds only what differs, from the defaults or from
the file that its key ``base`` names. Types are checked by jsonargparse; unknown keys are caught first, so that the
message can name the nearest valid one.

A class may list keys that were renamed, ``RENAMED: ClassVar[Mapping[str, str]]`` from old to new name; the error
then names the new one.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonargparse
import yaml

from videoretalking.core.commands import near_word
from videoretalking.core.errors import UserError
from videoretalking.core.locations import find_file

Config = TypeVar("Config")

_ROOT = "config"
_BASE = "base"
_OVERRIDES = "overrides"
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text (in quotes if it looks like a number)",
    type(None): "null",
}


class Layer(NamedTuple):
    """Settings from one place; later layers outrank earlier ones.

    Attributes:
        where: the file, or what errors call the place.
        values: nested mapping of keys to values.
    """

    where: str
    values: dict[str, Any]


def load_config(cls: type[Config], path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Build ``cls`` from a YAML file with its bases and ``key=value`` overrides (dots reach into nested groups).

    Args:
        cls: a frozen dataclass whose fields all have defaults or are given.
        path: YAML file with the values that differ from the defaults; None for defaults only.
        overrides: strings like ``"optimizer.lr=1e-4"``; values are read as YAML.

    Raises:
        UserError: missing or malformed file, bases in a circle, unknown key (with the nearest valid one), wrong
            type; the message names the file that holds the key.
    """
    layers = read_layers(path) if path is not None else []
    given: dict[str, Any] = {}
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise UserError(f"override {item!r} is not of the form key=value")
        _assign(given, key.split("."), _parse_value(text, item), item)
    layers.append(Layer(_OVERRIDES, given))
    for layer in layers:
        _reject_unknown(cls, layer.values, layer.where, prefix="")
    return _build(cls, layers)


def read_layers(path: str | Path) -> list[Layer]:
    """A YAML file and the files below it, the lowest first.

    The key ``base`` names the file below, relative to the file that names it, else one that ships with the program
    (``configs/lnet.yaml``). A group of keys is merged with the
    same group below; any other value replaces the one below.

    Raises:
        UserError: a file that cannot be read, or bases in a circle.
    """
    layers: list[Layer] = []
    seen: set[Path] = set()
    place = find_file(Path(path))
    while True:
        if place.resolve() in seen:
            raise UserError(f"config {path}: its bases lead back to {place}; remove one 'base'")
        seen.add(place.resolve())
        values = read_yaml(place)
        base = values.pop(_BASE, None)
        layers.insert(0, Layer(str(place), values))
        if base is None:
            return layers
        if not isinstance(base, str):
            raise UserError(f"config {place}: base must be the path of a YAML file, found {base!r}")
        beside = place.parent / base
        place_below = beside if beside.is_file() else find_file(Path(base))
        if not place_below.is_file():
            raise UserError(f"config {place}: its base {base} does not exist (looked for {beside})")
        place = place_below


def merge_layers(layers: Iterable[Layer]) -> dict[str, Any]:
    """The settings of all layers together."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer.values)
    return merged


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "config") -> Config:
    """Build ``cls`` from nested mappings, strictly.

    Args:
        cls: a dataclass.
        values: nested mapping of field names to values.
        where: the file or place that errors name.

    Raises:
        UserError: unknown key or wrong type; the message names the key.
    """
    _reject_unknown(cls, values, where, prefix="")
    return _build(cls, [Layer(where, dict(values))])


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dictionary of a config dataclass, ready for JSON or YAML (tuples become lists)."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    return plain


def require_positive(config: Any, *names: str) -> None:
    """Refuse numbers below 1 in the named fields; a field may be a tuple of numbers. For ``__post_init__``.

    Raises:
        ValueError: names the class and the field; :func:`from_dict` turns it into a UserError.
    """
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or min(numbers) < 1:
            raise ValueError(f"{name} of {type(config).__name__} must be positive, is {value}")


def require_range(
    config: Any, *names: str, least: float, most: float = math.inf, below: float = math.inf
) -> None:
    """Refuse numbers outside ``least .. most``, from ``below`` on, infinite or NaN. For ``__post_init__``.

    Args:
        config: the dataclass.
        names: its fields; a field may be a tuple of numbers.
        least: smallest number allowed.
        most: largest number allowed.
        below: smallest number that is too large.

    Raises:
        ValueError: names the class, the field and its bounds; :func:`from_dict` turns it into a UserError.
    """
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if all(math.isfinite(number) and least <= number <= most and number < below for number in numbers):
            continue
        bounds = "" if all(map(math.isfinite, numbers)) else "finite, "
        bounds += f"at least {least:g}"
        bounds += f" and at most {most:g}" if most < math.inf else ""
        bounds += f" and below {below:g}" if below < math.inf else ""
        raise ValueError(f"{name} of {type(config).__name__} must be {bounds}, is {value}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file; ``configs/lnet.yaml`` is found from any folder.

    Raises:
        UserError: unreadable, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = find_file(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read config {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"config {path} is not a text file") from None
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"config {path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"config {path} must hold key: value lines, found {type(values).__name__}")
    return values


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys, which plain YAML silently resolves to the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _build(cls: type[Config], layers: Sequence[Layer]) -> Config:
    """The config of layers without unknown keys; an error names the layer that holds the value."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{_ROOT}", type=cls)
    try:
        namespace = parser.parse_object({_ROOT: _with_switches(cls, merge_layers(layers))})
        return typing.cast(Config, parser.instantiate(namespace)[_ROOT])
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        text = " ".join(str(error).split()).replace(f'"{_ROOT}.', '"').replace(f"{_ROOT}.", "")
        refused = re.match(r"(\w+) of (\w+) must be (.*)", text)
        keys = _keys_of(cls, refused.group(2), refused.group(1)) if refused else []
        if refused and len(keys) == 1:  # a class that stands in several places names itself instead
            where = _origin(f'key "{keys[0]}"', layers)
            nested = "." in keys[0]
            raise UserError(f"{where}: {f'{keys[0]} must be {refused[3]}' if nested else text}") from None
        raise UserError(f"{_origin(text, layers)}: {_explain(cls, merge_layers(layers), text)}") from None


def _with_switches(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """YAML reads ``on`` and ``off`` as truth values; where a setting knows these words, they are meant."""
    hints, words = typing.get_type_hints(cls), dict(values)
    for key, value in values.items():
        nested = _dataclass_in(hints[key])
        if nested is not None and isinstance(value, Mapping):
            words[key] = _with_switches(nested, value)
        elif isinstance(value, bool) and {"on", "off"} <= set(typing.get_args(hints[key])):
            words[key] = "on" if value else "off"
    return words


def _keys_of(cls: Any, owner: str, name: str, prefix: str = "") -> list[str]:
    """Dotted keys of the field ``name`` of all groups whose class is called ``owner``."""
    keys = [prefix + name] if cls.__name__ == owner else []
    for key, hint in typing.get_type_hints(cls).items():
        nested = _dataclass_in(hint)
        if nested is not None:
            keys += _keys_of(nested, owner, name, f"{prefix}{key}.")
    return keys


def _origin(text: str, layers: Sequence[Layer]) -> str:
    """The uppermost layer that holds the key named in an error; the uppermost file where none is named."""
    named = re.search(r'key "([\w.]+)"', text)
    if named:
        for layer in reversed(layers):
            if _holds(layer.values, named.group(1).split(".")):
                return layer.where
    return next((layer.where for layer in reversed(layers) if layer.where != _OVERRIDES), _OVERRIDES)


def _holds(values: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = (
            _merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def _parse_value(text: str, item: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"the value of override {item!r} is not valid YAML") from None


def _assign(values: dict[str, Any], keys: list[str], value: Any, item: str) -> None:
    group = values
    for key in keys[:-1]:
        nested = group.setdefault(key, {})
        if not isinstance(nested, dict):
            raise UserError(f"override {item!r}: {key!r} is a value, not a group of keys")
        group = nested
    group[keys[-1]] = value


def _reject_unknown(cls: Any, values: Mapping[str, Any], where: str, prefix: str) -> None:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key, value in values.items():
        renamed = getattr(cls, "RENAMED", {}).get(key)
        if renamed is not None:
            raise UserError(
                f"{where}: unknown key {prefix + str(key)!r}: it is called {prefix + renamed!r} now"
            )
        if key not in names:
            near = near_word(str(key), names)
            advice = f", did you mean {prefix + near!r}?" if near is not None else ""
            raise UserError(f"{where}: unknown key {prefix + str(key)!r}{advice}")
        nested = _dataclass_in(hints[key])
        if nested is hints[key] and not isinstance(value, Mapping):
            raise UserError(f"{where}: {prefix}{key} must be {_describe(nested)}, found {value!r}")
        if nested is not None and isinstance(value, Mapping):
            _reject_unknown(nested, value, where, prefix=f"{prefix}{key}.")


def _dataclass_in(hint: Any) -> Any | None:
    """The dataclass in ``Group``, ``Group | None``; None for anything else."""
    candidates = [hint, *typing.get_args(hint)]
    return next((item for item in candidates if dataclasses.is_dataclass(item)), None)


def _explain(cls: Any, values: Mapping[str, Any], text: str) -> str:
    """What is wrong with a value, in words of the config instead of those of jsonargparse."""
    found = re.match(r'Parser key "([^"]+)": (.*)', text)
    if found is None:
        return text
    path, reason = found.groups()
    hint, value = cls, values
    for name in path.split("."):
        group = _dataclass_in(hint)
        if group is None or not isinstance(value, Mapping) or name not in value:
            return f"{path}: {reason}"
        hint, value = typing.get_type_hints(group)[name], value[name]
    if _dataclass_in(hint) is not None and isinstance(value, Mapping):
        return f"{path}: {reason}"  # a rule of the group itself
    return f"{path} cannot be {value!r}, it must be {_describe(hint)}"


def _describe(hint: Any) -> str:
    """The values that a type hint allows, in words."""
    parts = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is tuple:
        return f"a list of {'' if Ellipsis in parts else f'{len(parts)} values, each '}{_describe(parts[0])}"
    if origin in (list, set, frozenset, Sequence):
        return f"a list, each {_describe(parts[0])}"
    if dataclasses.is_dataclass(hint) or origin in (dict, Mapping):
        return "a group of key: value lines"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))

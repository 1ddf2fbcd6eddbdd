"""Names to tasks and model adapters.

A name is a module in ``tasks/`` or ``model_adapters/``, an entry point of another package (groups
``vamba_eval.tasks`` and ``vamba_eval.model_adapters``), or a path: ``my_task.py`` or ``my_task.py:MyTask``.
A model may also be named by its checkpoint, a folder or an id on the Hub: the adapter ``transformers`` loads it.
Nothing is imported until it is asked for.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from vamba_eval.contracts import CodeError, Model, ModelAdapter, ServedModel, Task, UserError, first_line, raised_at
from vamba_eval.files import safe_name
from vamba_eval.plain import did_you_mean
from vamba_eval.secrets import keep_arguments_secret, without_named, without_secrets

T = TypeVar("T", Task, Model)
# Tasks that this process was told to run the code of.
_NAMED: list[type[Task]] = []
# The two kinds of plugin. Any, because type checkers refuse an abstract class as a value of type[T].
_TASK: Any = Task
_MODEL: Any = Model
_SUITE = "suite:"
_PACKAGES: dict[type, str] = {Task: "vamba_eval.tasks", Model: "vamba_eval.model_adapters"}
_FOR_CHECKPOINTS = "transformers"  # the adapter of a checkpoint that is named in a model's place
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What a mistake in an adapter raises, and no value of an argument.
_MISTAKES = (TypeError, AttributeError, LookupError, NameError, AssertionError)
_BASES: dict[type, tuple[str, ...]] = {Task: ("Task",), Model: ("ModelAdapter", "ServedModel")}
_NOUNS: dict[type, str] = {Task: "task", Model: "model"}


def load_task(name: str) -> Task:
    """The task called ``name``. Raises UserError, naming the nearest, if there is none, and for a mistake in it that
    shows when it is built, with its line."""
    cls = _find(_TASK, name)
    try:
        task = cast(Task, cls())
    except Exception as error:
        raise code_error(f"task {name!r} cannot be built", error, cls) from error
    check_declared(task)
    return task


def check_declared(task: Task) -> None:
    """Raise UserError where a task does not say what each has to say of itself."""
    cls = type(task)
    for field, example in (("name", f"{cls.__name__.lower()!r}"), ("version", "'1'"), ("catalogue", "Catalogue(...)")):
        if not hasattr(task, field):
            raise UserError(
                f"the task {cls.__name__}{_line_of(cls)} has no {field}: give its class one, {field} = {example}"
            )


def code_error(what: str, error: BaseException, cls: type) -> CodeError:
    """The error, to be raised from ``error``, that ``what`` is so because of it: with its kind, its first line, and the
    last line of the file of ``cls`` that led to it."""
    said = error.msg if isinstance(error, SyntaxError) else _said(error)
    place = raised_at(error, inspect.getfile(cls))
    return CodeError(f"{what}: {type(error).__name__}: {without_secrets(said)}{f' ({place})' if place else ''}")


def name_task_code(code: str) -> None:
    """Run a task's code because somebody asks for it: a ``.py`` file (with ``:CLASS``), or ``MODULE:CLASS``.

    From then on stored results may be of that task. Raises UserError where it cannot be imported.
    """
    if code.partition(":")[0].endswith(".py"):
        _NAMED.append(_find(_TASK, code))
        return
    module, colon, name = code.partition(":")
    try:
        cls = attrgetter(name)(importlib.import_module(module)) if colon else None
    except (Exception, SystemExit) as error:  # the module may be somebody's own
        raise UserError(f"the task {code} cannot be imported: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(cls) and issubclass(cls, Task) and not inspect.isabstract(cls)):
        raise UserError(f"{code} is no task: name a .py file, a FILE.py:CLASS or a MODULE:CLASS")
    _NAMED.append(cls)


def suites() -> Mapping[str, Any]:
    """Named lists of tasks, each with its ``tasks``, a ``summary`` and a ``source``."""
    found: Mapping[str, Any] = importlib.import_module(f"{_PACKAGES[Task]}._suites").SUITES
    return found


def expanded(tasks: Iterable[str | Task]) -> list[str | Task]:
    """``tasks``, with those of a suite in the place of ``suite:NAME``; each once. UserError for an unknown suite."""
    found: list[str | Task] = []
    for task in tasks:
        if not isinstance(task, str) or not task.startswith(_SUITE):
            found += [] if task in found else [task]
            continue
        name = task.removeprefix(_SUITE)
        if name not in suites():
            raise UserError(f"unknown suite {name!r}{did_you_mean(name, suites())}: there are {', '.join(suites())}")
        found += [each for each in suites()[name].tasks if each not in found]
    return found


def recorded_task(source: str, name: str) -> Task:
    """The task that stored results are of, by its ``name`` as they have it and its ``source``. Runs no code of theirs.

    Results are other people's data. Built-in tasks and those of installed packages are found by their names; of
    anybody else's code, only what this process has imported already, from that very source, or what was named to it,
    by the task's name. Raises UserError.
    """
    if source in _builtin(Task) or source in _entry_points(Task):
        return load_task(source)
    # Looked for among classes: asking a module for a name of theirs may itself run code.
    for cls in reversed([*_subclasses(_TASK)]):
        if _comes_from(cls, source):
            return cls()
    named = {cls for cls in _NAMED if name in (cls.name, safe_name(cls.name))}
    if len(named) == 1:
        return named.pop()()
    if ":" not in source and not source.endswith(".py"):
        raise _unknown(Task, source)
    raise UserError(f"its task is code of somebody's own, which is only run if you name it: --task-code {source}")


def _subclasses(cls: type[Task]) -> Iterator[type[Task]]:
    for each in cls.__subclasses__():
        if not inspect.isabstract(each):
            yield each
        yield from _subclasses(each)


def _comes_from(cls: type[Task], source: str) -> bool:
    """Whether ``source`` is how a run names this class: MODULE:CLASS, or its file, with or without :CLASS."""
    module, _, name = source.partition(":")
    if not module.endswith(".py"):
        return source == f"{cls.__module__}:{cls.__qualname__}"
    home = sys.modules.get(cls.__module__)
    return module == getattr(home, "__file__", None) and name in ("", cls.__name__)


def load_adapter(name: str, **args: Any) -> Model:
    """The adapter called ``name``, built from ``args``. Raises UserError for unknown names and arguments, and for a
    mistake of the adapter that shows when it is built, with its line."""
    cls = _find(_MODEL, name)
    _check_names(name, cls, args)
    keep_arguments_secret(args)
    given = _given(args)
    try:
        return cast(Model, cls(**args))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"model {name!r} cannot be built with {given}: {_said(error)}") from error
    except _MISTAKES as error:
        raise code_error(f"model {name!r} has a mistake, met when built with {given}", error, cls) from error
    except Exception as error:
        raise code_error(f"model {name!r} cannot be built with {given}", error, cls) from error
    except SystemExit as error:
        where = f"{without_secrets(repr(error))}, {raised_at(error, inspect.getfile(cls))}"
        raise CodeError(f"model {name!r} tried to end the process when it was built ({where})") from error


def check_arguments(name: str, args: Mapping[str, Any]) -> None:
    """Raise UserError where the adapter called ``name`` cannot be built from ``args``, as far as it knows that before
    anything is loaded; and for an unknown adapter, and one whose module cannot be imported."""
    cls = _find(_MODEL, name)
    _check_names(name, cls, args)
    keep_arguments_secret(args)
    cast("type[Model]", cls).check_arguments(**args)


def _check_names(name: str, cls: type, args: Mapping[str, Any]) -> None:
    """Raise UserError where an argument is none of the adapter's, or one that it needs is missing."""
    parameters = inspect.signature(cls).parameters
    takes = ", ".join(parameters) or "no arguments"
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for given in args:
            if given not in parameters:
                near = did_you_mean(given, parameters)
                raise UserError(f"model {name!r} has no argument {given!r}; it takes {takes}{near}")
    for needed, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and needed not in args:
            raise UserError(
                f"model {name!r} cannot be built with {_given(args)}: it needs {needed}=...; it takes {takes}"
            )


def _given(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in without_named(dict(args)).items()) or "its defaults"


def _said(error: BaseException) -> str:
    return without_secrets(first_line(error))


def load_local(name: str, **args: Any) -> ModelAdapter:
    """As ``load_adapter``, for what only weights in this process can do. Raises UserError for a served model."""
    if issubclass(adapter_class(name), ServedModel):
        raise UserError(f"the model {name!r} is served: this needs one whose weights are in this process")
    return cast(ModelAdapter, load_adapter(name, **args))


def adapter_class(name: str) -> type[Model]:
    """The class of the adapter called ``name``, for what it says of itself. Raises UserError for unknown names."""
    return cast("type[Model]", _find(_MODEL, name))


def source_of(adapter: str | Model) -> dict[str, str]:
    """A digest of the file that an adapter was named by, as a run's fingerprint has it; nothing of any other."""
    path = adapter.partition(":")[0] if isinstance(adapter, str) else ""
    if not path.endswith(".py"):
        return {}
    return {"adapter_source": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}


def takes_argument(name: str, argument: str) -> bool:
    """Whether the adapter called ``name`` has an argument of that name. Raises UserError for unknown adapters."""
    accepted = inspect.signature(_find(_MODEL, name)).parameters
    return argument in accepted or any(p.kind is p.VAR_KEYWORD for p in accepted.values())


def check_adapter(name: str) -> None:
    """Raise UserError now, before anything is loaded or run, if there is no adapter called ``name``."""
    is_path = name.partition(":")[0].endswith(".py")
    if not is_path and name not in _builtin(Model) and name not in _entry_points(Model):
        raise _unknown(Model, name)


def named_model(name: str, arguments: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """What a model's name means: its label, its adapter, and the adapter's arguments.

    A checkpoint in a name's place, a folder or a Hub id as OWNER/NAME, is loaded by transformers and called by its last
    part. Raises UserError for a folder that is not there or holds no checkpoint, and for unknown names.
    """
    given = dict(arguments)
    keep_arguments_secret(given)
    if not _is_checkpoint(name):
        check_adapter(name)
        path = str(given.get("pretrained") or "")
        if path.startswith(("/", "~", ".")) and not Path(path).expanduser().exists():
            raise UserError(f"no checkpoint folder at {path}")
        return name, name, given
    if "pretrained" in given:
        raise UserError(f"{name} is a checkpoint itself: leave out pretrained={given['pretrained']}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"no checkpoint in {name}: it holds no config.json")
        return folder.resolve().name, _FOR_CHECKPOINTS, {"pretrained": str(folder), **given}
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise UserError(f"no checkpoint folder at {name}; a model of the Hub is named OWNER/NAME")
    return name.rpartition("/")[2], _FOR_CHECKPOINTS, {"pretrained": name, **given}


def _is_checkpoint(name: str) -> bool:
    if name.partition(":")[0].endswith(".py") or name in _builtin(Model) or name in _entry_points(Model):
        return False
    return "/" in name or name.startswith(("~", ".")) or Path(name).is_dir()


def task_of_lmms(name: str, functions: Collection[str] = ()) -> tuple[Task, str | None] | None:
    """The built-in task that asks what lmms-eval's task ``name`` asks, and the split; None if there is none.

    ``functions`` are the names of those that the task is defined by: a task of another name is known by them.
    """
    built_in = [_find(_TASK, ours) for ours in names(Task)]
    tasks = [(cls, cls.catalogue.in_lmms_eval) for cls in built_in if cls.catalogue.in_lmms_eval]
    for cls, there in tasks:
        for pattern, split in there.tasks.items():
            if fnmatch.fnmatchcase(name, pattern):
                return cls(), split
    for cls, there in tasks:
        if there.functions and there.functions.issubset(functions):
            return cls(), next(iter(there.tasks.values()))
    return None


def names(kind: type[Task] | type[Model]) -> list[str]:
    """The names of all built-in tasks or adapters."""
    return sorted(_builtin(kind))


def describe_all(kind: type[Task] | type[Model]) -> dict[str, str]:
    """All names with the first line of each module's docstring, read without importing it."""
    described = {}
    for name, origin in _builtin(kind).items():
        try:
            docstring = ast.get_docstring(ast.parse(origin.read_text(encoding="utf-8"))) or ""
        except (SyntaxError, ValueError) as error:  # a file that somebody is at work on
            docstring = f"cannot be imported: {first_line(error)}"
        described[name] = docstring.partition("\n")[0]
    for name, entry in _entry_points(kind).items():
        described[name] = f"from {entry.dist.name if entry.dist else entry.value}"
    return dict(sorted(described.items()))


def _find(kind: type[T], name: str) -> type[T]:
    if name.partition(":")[0].endswith(".py"):
        path, _, class_name = name.partition(":")
        return _only_subclass(kind, module_at(Path(path)), class_name)
    if (origin := _builtin(kind).get(name)) is not None:
        with _importing(origin):
            module = importlib.import_module(f"{_PACKAGES[kind]}.{name}")
        return _only_subclass(kind, module)
    if (entry := _entry_points(kind).get(name)) is not None:
        with _importing(entry.value):
            return cast("type[T]", entry.load())
    raise _unknown(kind, name)


@contextmanager
def _importing(what: Path | str) -> Iterator[None]:
    """Around what runs the code of a module: what fails there becomes a CodeError with its line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        said = error.msg if isinstance(error, SyntaxError) else _said(error)
        place = raised_at(error, str(what))
        kind = type(error).__name__
        raise CodeError(f"{what} cannot be imported: {kind}: {said}{f' ({place})' if place else ''}") from error


def _unknown(kind: type, name: str) -> UserError:
    names = sorted(_builtin(kind)) + sorted(_entry_points(kind))
    others = ", a folder with a checkpoint or a Hub id (OWNER/NAME)" if kind is Model else ""
    near = did_you_mean(name, names)
    return UserError(
        f"unknown {_NOUNS[kind]} {name!r}{near}: there are {', '.join(names)}, or give the path of a .py file{others}"
    )


def _builtin(kind: type) -> dict[str, Path]:
    package = importlib.import_module(_PACKAGES[kind])
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            folder = Path(cast(Any, module.module_finder).path)
            file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
            found[module.name] = file
    return found


def _entry_points(kind: type) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=_PACKAGES[kind])}


def module_at(path: Path) -> ModuleType:
    """The module in a file, executed once. Raises UserError."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    name = f"_vamba_eval_plugin_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing(path.resolve()):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _only_subclass(kind: type[T], module: ModuleType, class_name: str = "") -> type[T]:
    """The class of that kind that a module defines, or imports under ``class_name``. UserError, with what is there
    instead, unless it is one."""
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls)]
    found = [cls for cls in classes if issubclass(cls, kind) and not inspect.isabstract(cls)]
    own = [cls for cls in classes if cls.__module__.startswith(module.__name__)]
    local = [cls for cls in found if cls in own]
    wanted = [cls for cls in found if cls.__name__ == class_name] if class_name else local
    if len(wanted) != 1:
        what = f"a {kind.__name__} called {class_name}" if class_name else f"exactly one {kind.__name__}"
        there = ", ".join(cls.__name__ for cls in local) or "none"
        others = [cls for cls in own if cls not in local and class_name in ("", cls.__name__)]
        there += "".join(f"; {cls.__name__}{_line_of(cls)} {_why_not(cls, kind)}" for cls in others)
        near = did_you_mean(class_name, [cls.__name__ for cls in local]) if class_name else ""
        raise UserError(f"{module.__file__} should define {what}{near}; it defines {there}")
    return cast("type[T]", wanted[0])


def _why_not(cls: type, kind: type) -> str:
    """Why a class is not one of that kind."""
    if issubclass(cls, kind):
        return f"lacks {' and '.join(sorted(getattr(cls, '__abstractmethods__', ())))}"
    if issubclass(cls, Task):
        return "is a Task: name it with --tasks"
    if issubclass(cls, Model):
        return "is a Model: name it with --models"
    return f"inherits from no {' and no '.join(_BASES[kind])}"


def _line_of(cls: type) -> str:
    """`` (line N)`` of its file; nothing where that is not known."""
    try:
        return f" (line {inspect.getsourcelines(cls)[1]})"
    except (OSError, TypeError):
        return ""

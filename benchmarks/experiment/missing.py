"""What of one model's results is missing, and in which order it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.experiment import cells
from benchmarks.experiment.cells import Chunk, bounds
from benchmarks.experiment.results import Chosen, Selection
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES
from benchmarks.judges.judge import Judge
from benchmarks.methods.method import Ingredient, Method, file_name
from benchmarks.methods.rows import of_source
from benchmarks.methods.weightings import WG
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell
from benchmarks.run.store import Key, Store


@dataclass(frozen=True, eq=False)
class Plan:
    """The cells of one model's results.

    Attributes:
        judged: (method, judge).
        methods: besides those, whose ingredients are made but not judged.
        chunk: images in a cell.
        which: of the selection's images, such as a half.
        again: how many images, the first ones, are for the judges that explain again; None: all.
        slow_again: whether slow rows are explained again.

    Raises:
        BenchmarkError: chunks that don't hold whole groups of images that are explained together.
    """

    experiment: Experiment
    store: Store
    selection: Selection
    judged: Sequence[tuple[str, str]]
    methods: Sequence[str] = ()
    chunk: int = 8
    which: slice = field(default_factory=lambda: slice(None))
    again: int | None = None
    slow_again: bool = True

    def __post_init__(self) -> None:
        if self.chunk % self.experiment.together:
            raise BenchmarkError(
                f"--chunk {self.chunk}: {self.experiment.together} images are explained together, so a cell must hold "
                f"a multiple of {self.experiment.together}"
            )

    @property
    def images(self) -> tuple[Chosen, ...]:
        """Those that are judged."""
        return self.selection.images[self.which]

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The images of each cell, named by their places among all images of the selection."""
        start, *_ = self.which.indices(len(self.selection.images))
        ends = bounds(len(self.images), self.chunk, alone=self.experiment.together == 1)
        return [Chunk(f"{start + a:06d}-{start + b:06d}", self.images[a:b]) for a, b in ends]

    @cached_property
    def rows(self) -> dict[str, Method]:
        """All methods by their own names, in the order in which they are asked for."""
        names = dict.fromkeys([*(name for name, _ in self.judged), *self.methods])
        return {row.name: row for row in map(self.experiment.method, names)}

    @cached_property
    def reasons(self) -> dict[tuple[str, str], str]:
        """Why a (method, judge) is left out, or ""."""

        def reason(row: Method, judge: Judge) -> str:
            if judge.explains and self.again == 0:
                return "left out: --robustness-images 0"
            if judge.explains and row.slow and not self.slow_again:
                return "left out: one forward per input element and map (--ablation-robustness computes it)"
            return ""

        asked = [(self.experiment.method(name), judge) for name, judge in self.judged]
        return {(row.name, judge): reason(row, JUDGES[judge]) for row, judge in asked}

    @cached_property
    def ingredients(self) -> dict[tuple[str, str], tuple[Ingredient, Method]]:
        """What the rows are made of, by kind and name: of as many baselines as any of them needs, and the first row
        that needs it."""
        found: dict[tuple[str, str], tuple[Ingredient, Method]] = {}
        for row in self.rows.values():
            for own in row.every:
                other, first = found.get((own.kind, own.name), (own, row))
                found[own.kind, own.name] = max(own, other, key=lambda one: one.count or 0), first
        return found

    def key(self, own: Ingredient) -> Key:
        """Where an ingredient is, but for the images."""
        return self.ingredients[own.kind, own.name][0].key

    def sources(self, method: Method) -> list[Key]:
        """Where that is which a method is made of, but for the images."""
        return [self.key(own) for own in method.ingredients]

    def own_fitness(self) -> list[Key]:
        """The D_alpha of weighted gradients by the experiment's own settings, where it is computed."""
        own = self.experiment.method(WG).ingredients[-1]
        return [self.key(own)] if (own.kind, own.name) in self.ingredients else []

    def key_of_scores(self, name: str, judge: str, chunk: Chunk) -> Key | None:
        """Where the scores of a chunk are; None of images that are not explained again."""
        if not JUDGES[judge].explains:
            return ("scores", file_name(name), judge, chunk.name)
        limit = self._limit(chunk)
        # The maps are those of the whole chunk, so it is part of the name.
        key = ("again", file_name(self.rows[name].source), JUDGES[judge].stream, chunk.name)
        return None if limit == 0 else key if limit is None else (*key, f"{limit:06d}")

    def missing(self, chunks: Sequence[Chunk], kept: Collection[str] = ()) -> Iterator[tuple[str, list[Cell]]]:
        """The cells of some chunks, of one kind after the other.

        Ingredients are made where something is missing that follows from them, and all of them in the chunks of `kept`;
        and everywhere the D_alpha of weighted gradients by the experiment's own settings, for `equal_fitness`.
        """
        known = {cell.key: (cell, needs) for cell, needs in (*self._ingredients(chunks), *self._scores(chunks))}
        wanted: set[Key] = set()

        def want(key: Key) -> None:
            if key not in wanted:
                wanted.add(key)
                for need in () if self.store.has(key) else known[key][1]:
                    want(need)

        own_fitness = self.own_fitness()
        for key in known:
            if key[0] in ("scores", "again") or key[-1] in kept or key[:-1] in own_fitness:
                want(key)
        for kind, words in (("maps", ["maps"]), ("fitness", ["fitness"]), ("scores", ["scores", "again"])):
            if work := [cell for key, (cell, _) in known.items() if key in wanted and key[0] in words]:
                yield kind, work

    def _ingredients(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Cell, list[Key]]]:
        """The cells of ingredients, each with the keys of what it needs."""
        # What takes longest comes first, so that no worker is left with it at the end.
        for own, row in sorted(self.ingredients.values(), key=lambda one: not one[1].slow):
            which, needed = (own.kind, own.name, own.count), [self.key(one) for one in own.needs]
            for chunk in chunks:
                arguments = (self.experiment, self.store, row.name, which, chunk, needed)
                yield (
                    Cell((*own.key, chunk.name), cells.ingredient, arguments),
                    [(*need, chunk.name) for need in needed],
                )

    def _scores(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Cell, list[Key]]]:
        """The cells of scores, each with the keys of what it needs.

        Where a judge explains again, all rows that share the explanation and all judges that share the draws are in one
        cell.
        """
        for chunk in chunks:
            for (name, judge), reason in self.reasons.items():
                key = self.key_of_scores(name, judge, chunk)
                if reason or key is None:
                    continue
                together, by, limit = [self.rows[name]], [judge], None
                if JUDGES[judge].explains:
                    by = [other for other in JUDGES if JUDGES[other].stream == JUDGES[judge].stream]
                    limit = self._limit(chunk)
                    if together[0].source != name:
                        together = of_source(together[0].source, self.experiment.for_methods)
                made_of = {row.name: [self.key(own) for own in row.every] for row in together}
                needed = [(*own, chunk.name) for keys in made_of.values() for own in keys]
                yield Cell(key, cells.scores, (self.experiment, self.store, made_of, by, chunk, limit)), needed

    def _limit(self, chunk: Chunk) -> int | None:
        """How many images of a chunk are explained again; None: all, however many there are."""
        return None if self.again is None else max(0, min(len(chunk.images), self.again - int(chunk.name[:6])))

import numpy as np
import pytest

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.log import Metrics
from mbml_lightning.files.posteriors import Means, load_posteriors
from mbml_lightning.report.posteriors import posteriors, principal_plane
from mbml_lightning.report.style import task_colours
from mbml_lightning.results.runs import MethodRuns, Run

K, N, Z = 3, 2, 4


def arrays():
    rng = np.random.default_rng(0)
    shapes = {"own": (K, N, Z), "relabelled": (K, K, N, Z)}
    return {f"{when}_{kind}": rng.normal(size=shape) for when in ("before", "after") for kind, shape in shapes.items()}


def test_what_was_kept_is_read(tmp_path):
    content, path = arrays(), tmp_path / "posteriors.npz"
    np.savez(path, **content)
    read = load_posteriors(path)
    assert list(read) == ["before", "after"]
    np.testing.assert_array_equal(read["after"].relabelled, content["after_relabelled"])
    np.savez(path, **{name: array for name, array in content.items() if name.startswith("before")})
    assert list(load_posteriors(path)) == ["before"]  # a training that has not been evaluated yet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after_own": np.zeros((K, Z))}, "after_own is float64 .*3 axes"),
        ({"before_own": np.full((K, N, Z), np.nan)}, "before_own is .*not finite"),
        ({"after_relabelled": np.zeros((K, 2, N, Z))}, "does not fit after_own"),
        ({"after_own": np.array([{}] * 3)}, "cannot be read"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "posteriors.npz"
    np.savez(path, **arrays() | change)
    with pytest.raises(ResultsError, match=f"{path}: .*{message}"):
        load_posteriors(path)


def test_missing_arrays_and_broken_archives_are_refused(tmp_path):
    path = tmp_path / "posteriors.npz"
    np.savez(path, after_own=np.zeros((K, N, Z)))
    with pytest.raises(ResultsError, match=r"missing .*after_relabelled"):
        load_posteriors(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultsError, match="cannot be read"):
        load_posteriors(path)


def test_the_plane_holds_the_largest_variance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 5)) * [0.1, 3.0, 0.2, 7.0, 0.1] + 10
    plane = principal_plane(points)
    for component, column in enumerate((3, 1)):
        assert np.corrcoef(plane[:, component], points[:, column])[0, 1] > 0.99
        assert plane[:, component].std() == pytest.approx(points[:, column].std(), rel=0.01)
    assert principal_plane(points[:, :1]).shape == (200, 2)


def test_crosses_have_the_colour_of_their_rewards(tmp_path):
    """Relabelled contexts lie on the posterior of the task of their rewards; the diagonal is not drawn."""
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 3.0]])
    own = np.repeat(centres[:, None], N, 1)
    relabelled = np.broadcast_to(centres[:, None, None], (K, K, N, 2)).copy()
    relabelled[np.arange(K), np.arange(K)] = 1e6
    run = Run(tmp_path, {}, Metrics(), {}, {"after": Means(own, relabelled)})
    (axes,) = posteriors(MethodRuns("mbml", [run])).axes
    crosses, dots = axes.collections
    assert len(dots.get_offsets()) == K * N and len(crosses.get_offsets()) == K * (K - 1) * N
    colour_at = {
        tuple(np.round(at, 6)): tuple(ink) for at, ink in zip(dots.get_offsets(), dots.get_facecolors(), strict=True)
    }
    for at, ink in zip(crosses.get_offsets(), crosses.get_edgecolors(), strict=True):
        assert tuple(ink[:3]) == colour_at[tuple(np.round(at, 6))][:3]


def test_thirty_colours_differ_and_stand_out_from_white_and_black():
    colours = task_colours(30)
    assert len(np.unique(colours.round(2), axis=0)) == 30
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (luminance + 0.05)).min() > 1.8 and ((luminance + 0.05) / 0.05).min() > 3

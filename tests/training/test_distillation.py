"""Learning from a teacher: the losses against PyTorch's own, and that a student comes nearer to it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onebit.errors import OnebitError, RecipeError
from onebit.training import ImageRecipe, TextRecipe, load_run, train
from onebit.training.distillation import Teacher, features_loss, logits_loss

TINY = ImageRecipe(
    data="digits", channels=1, model="vgg", scheme="BinaryNet", widths=(6, 8), hidden=(16,), epochs=2, train_limit=200,
    batch_size=40, learning_rate=4e-3, threads=1, precision="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return train(TINY.override({"binary": False}), tmp_path_factory.mktemp("runs") / "teacher", progress=False)


def test_the_logits_loss_is_the_divergence_of_softened_distributions():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    p, q = (torch.distributions.Categorical(logits=logits / 3) for logits in (teacher, student))
    expected = 9 * torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(logits_loss(student, teacher, 3.0), expected)
    assert logits_loss(teacher, teacher + 5, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_the_logits_loss_keeps_its_size_as_the_temperature_rises():
    torch.manual_seed(0)
    sizes = []
    for temperature in (20.0, 100.0):
        student = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits_loss(student, torch.zeros(5, 7), temperature).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_features_of_images_are_compared_by_where_they_are_large():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 8, 4, 5)
    maps = [(y**2).mean(1).flatten(1) for y in (student, teacher)]
    maps = [m / m.norm(dim=1, keepdim=True) for m in maps]
    torch.testing.assert_close(features_loss(student, teacher), ((maps[0] - maps[1]) ** 2).sum(1).mean())
    # Neither the sign nor the size matters, nor which channel.
    assert features_loss(student, -3 * student[:, [2, 0, 1]]).item() == pytest.approx(0, abs=1e-6)


def test_features_of_sequences_and_rows():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 3), torch.randn(2, 6, 8)
    maps = [F.normalize((y**2).mean(-1)) for y in (student, teacher)]
    torch.testing.assert_close(features_loss(student, teacher), ((maps[0] - maps[1]) ** 2).sum(1).mean())
    rows = torch.tensor([[3.0, 4.0]])
    assert features_loss(rows, -rows).item() == pytest.approx(4)
    assert features_loss(rows, torch.tensor([[-4.0, 3.0]])).item() == pytest.approx(2)


@pytest.mark.parametrize("shapes", [((2, 3, 4, 4), (2, 3, 2, 2)), ((2, 3), (2, 4)), ((2, 4), (2, 3, 2, 2))])
def test_features_of_other_sizes_are_refused(shapes):
    with pytest.raises(ValueError, match="against the teacher's"):
        features_loss(*(torch.randn(shape) for shape in shapes))


def networks():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return student, nn.Sequential(nn.Identity(), nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))


def test_a_teacher_compares_what_is_named_and_counted():
    student, big = networks()
    teacher = Teacher(student, big, ("0=1", "2=3"))
    x, counted = torch.randn(5, 4), torch.tensor([True, False, True, True, False])
    soft, apart = teacher.losses(x, student(x), counted, 2.0)
    theirs = big[3](big[1](x))  # as in use: no dropout
    torch.testing.assert_close(soft, logits_loss(student(x)[counted], theirs[counted], 2.0))
    expected = features_loss(student[0](x), big[1](x)) + features_loss(student(x), theirs)
    torch.testing.assert_close(apart, expected)
    (soft + apart).backward()
    assert student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in big.parameters())


def test_layers_that_are_not_there_are_named():
    student, big = networks()
    with pytest.raises(
        OnebitError, match=r"the teacher has no layer 'head': use names such as 0, 1, 2, or ours=theirs"
    ):
        Teacher(student, big, ("0=head",))
    with pytest.raises(OnebitError, match="the network has no layer '7'"):
        Teacher(student, big, ("7=1",))
    with pytest.raises(OnebitError, match="the network has no layer ''"):  # named_modules() calls the whole network so
        Teacher(student, big, ("=1",))
    with pytest.raises(OnebitError, match="the teacher has no layer ''"):
        Teacher(student, big, ("0=",))
    teacher = Teacher(student, big, ("0=3",))
    x = torch.randn(2, 4)
    with pytest.raises(OnebitError, match=r"0=3: \(2, 6\) against the teacher's \(2, 3\)"):
        teacher.losses(x, student(x), torch.ones(2, dtype=torch.bool), 1.0)


def apart(run, teacher):
    """How far a run's network is from the teacher on noise."""
    x = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return logits_loss(run.model(x), teacher.model(x), 1.0).item()


def test_a_student_comes_nearer_to_its_teacher(teacher, tmp_path):
    alone = train(TINY, tmp_path / "alone", progress=False)
    keys = {"teacher": str(teacher.path), "distill_weight": 1.0, "distill_features": ["features.2", "head.0"]}
    taught = train(TINY.override(keys), tmp_path / "taught", progress=False)
    assert apart(taught, teacher) < 0.9 * apart(alone, teacher)
    # The teacher is no part of the run.
    assert load_run(taught.path).model.state_dict().keys() == alone.model.state_dict().keys()
    assert TINY.override(keys).teacher.features == ("features.2", "head.0")


def test_a_weight_of_nothing_teaches_nothing(teacher, tmp_path):
    alone = train(TINY.override({"epochs": 1}), tmp_path / "alone", progress=False)
    keys = {"teacher": str(teacher.path), "distill_weight": 0, "epochs": 1}
    taught = train(TINY.override(keys), tmp_path / "taught", progress=False)
    a, b = alone.model.state_dict(), taught.model.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_teacher_of_another_task_is_refused(teacher, tmp_path):
    keys = {"teacher": str(teacher.path), "image_size": [16, 16]}
    with pytest.raises(OnebitError, match=r"\[teacher\] .* has another task"):
        train(TINY.override(keys), tmp_path / "a", progress=False)
    with pytest.raises(OnebitError, match="is not a run folder"):
        train(TINY.override({"teacher": str(tmp_path)}), tmp_path / "a", progress=False)
    with pytest.raises(OnebitError, match=r"\[distill_features\] the network has no layer 'feature.2'.*features.2"):
        train(
            TINY.override({"teacher": str(teacher.path), "distill_features": "feature.2"}),
            tmp_path / "a",
            progress=False,
        )
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"distill_weight": 2}, "distill_weight=2.0: use 0 or more, at most 1"),
        ({"distill_temperature": 0}, "distill_temperature=0.0: use a number above 0"),
        ({"distill_feature_weight": -1}, "distill_feature_weight=-1.0: use 0 or more"),
        ({"distill_features": ["a"]}, "distill_features=('a',): use it with a teacher"),
        ({"distill_features": [1]}, "distill_features=[1]: needs a list of texts or null"),
    ],
)
@pytest.mark.parametrize("kind", [ImageRecipe, TextRecipe])
def test_wrong_keys_are_named(kind, keys, message):
    with pytest.raises(RecipeError) as raised:
        kind().override(keys, "here")
    assert message in str(raised.value)

"""Recipes: every shipped one is valid, and every wrong key or value is named in one line."""

import numpy as np
import pytest
import yaml

import onebit
from onebit.errors import RecipeError
from onebit.nn.binary import binary_layers
from onebit.quantizers import MeanThreshold
from onebit.schemes import (
    BinaryConnect,
    BinaryNet,
    BinaryNormalized,
    BinaryWeightNetwork,
    Bipolar,
    BitNet158,
    DoReFa,
    KBitWeightNetwork,
    PureBits,
    XnorNet,
)
from onebit.text import TextTask
from onebit.training import ImageRecipe, TextRecipe, load_recipe, recipe_names
from onebit.training.jobs import build_model
from onebit.training.recipe import parse_text


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_survive_yaml(name, tmp_path):
    recipe = load_recipe(name)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("size", [3, 5])
def test_the_papers_recipes_are_its_table(size):
    recipe = load_recipe(f"paper-food101-{size}x{size}")
    assert (recipe.model.kernel_size, recipe.optimizer.batch_size, recipe.optimizer.learning_rate) == (size, 64, 1e-4)
    assert (recipe.schedule.warmup, recipe.schedule.decay, recipe.schedule.epochs) == (20, 1100, 1000)
    assert (recipe.scheme.name, recipe.scheme.normalize, recipe.model.widths) == (
        "BinaryNormalized",
        "channel",
        "counted",
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("5", "epochs", 5),
        ("1e-3", "learning_rate", 1e-3),
        ("2", "learning_rate", 2.0),
        ("32,64", "widths", (32, 64)),
        ("[32, 64]", "widths", (32, 64)),
        ("listed", "widths", "listed"),
        ("48", "widths", (48,)),
        ("8,16", "image_size", (8, 16)),
        ("32", "image_size", (32, 32)),
        ("false", "binary", False),
        ("none", "normalize", None),
        ("null", "decay", None),
        ("01", "values", "unipolar"),
        ("pm1", "values", "bipolar"),
        ("bipolar", "values", "bipolar"),
        ("scheme", "normalize", "scheme"),
    ],
)
def test_flags_are_read_as_their_key_wants_them(text, key, value):
    assert ImageRecipe().override({key: parse_text(text)}).flat()[key] == value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", 5, "unknown key 'epoch'; did you mean 'epochs'"),
        ("colour", 5, "unknown key 'colour': use one of data,"),
        ("epochs", "many", "epochs='many': needs an integer"),
        ("epochs", 1.5, "needs an integer"),
        ("epochs", True, "needs an integer"),
        ("epochs", 0, "epochs=0: use 1 or more"),
        ("learning_rate", "fast", "needs a number"),
        ("learning_rate", float("nan"), "needs a number"),
        ("learning_rate", -1, "use a number above 0"),
        ("values", "0", "needs 'unipolar' or 'bipolar' or null"),
        ("values", True, "needs 'unipolar' or 'bipolar' or null"),
        ("normalize", "layer", "needs 'scheme' or 'channel' or 'example' or 'batch' or null"),
        ("channels", 2, "needs 1 or 3"),
        ("image_size", [8], "needs a list of 2 integers or null"),
        ("image_size", [0, 8], "use numbers from 1 up"),
        ("widths", "wide", "use counted, listed or a list"),
        ("widths", [], "use numbers from 1 up"),
        ("validation_share", 1, "0 or more, below 1"),
        ("batch_norm", True, "binary=false"),
        ("threshold", "row", "needs 'layer' or 'output'"),
        ("latent_clip", 0, "use a number above 0"),
        ("latent_spread", -1, "use a number above 0"),
        ("binary", "maybe", "needs true or false"),
    ],
)
def test_wrong_keys_and_values_are_named(key, value, message):
    with pytest.raises(RecipeError, match=message) as caught:
        ImageRecipe().override({key: value}, "here")
    assert str(caught.value).startswith("[here]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "rnn"}, "needs 'decoder' or 'lstm' or 'gru'"),
        ({"hidden": 64}, "hidden=64: use it with model=lstm or model=gru"),
        ({"model": "gru", "form": "best"}, "form='best': use it with model=decoder"),
        ({"model": "gru", "scheme": "Binary"}, "use BinaryNormalized, Bipolar, Nested, PureBits"),
        ({"model": "gru", "hidden": 0}, "hidden=0: use 1 or more"),
    ],
)
def test_wrong_keys_of_recurrent_language_models_are_named(values, message):
    with pytest.raises(RecipeError, match=message):
        TextRecipe().override(values, "here")


@pytest.mark.parametrize(("key", "value"), [("threshold", "output"), ("values", "bipolar")])
def test_parts_of_the_papers_quantizer_are_refused_of_others(key, value):
    with pytest.raises(RecipeError, match=f"{key}={value!r}: use it with BinaryNormalized or Bipolar"):
        ImageRecipe().override({"model": "vgg", "scheme": "XnorNet", key: value})


def test_any_networks_scheme_takes_what_a_recipe_says_of_it():
    keys = {"model": "vgg", "scheme": "XnorNet", "latent_spread": 0.5, "latent_clip": 1.5, "normalize": "example"}
    assert ImageRecipe().override(keys).scheme.made == XnorNet(latent_spread=0.5, clip_latents=1.5, normalize="example")


def test_layers_of_several_sizes_are_refused():
    with pytest.raises(RecipeError, match="layers of one size with a recurrent network"):
        ImageRecipe().override({"model": "lstm", "hidden": [32, 64]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "holds list"),
        ("a: [", "not YAML"),
        ("", "holds NoneType"),
        ("epochs: no", "needs an integer"),
        ("epochs: 1\nepochs: 2", "the key 'epochs' is given twice: keep one"),
        ("learning-rate: 1\nlearning_rate: 2", "'learning_rate' is given twice"),
        ("schedule: {epochs: 1, epochs: 2}", "'epochs' is given twice"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_no_such_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe: use best-food101-3x3, .*cifar10"):
        load_recipe("cifar")
    with pytest.raises(RecipeError, match="use the recipe 'images'"):
        load_recipe(tmp_path)


def test_yaml_reads_an_unquoted_01(tmp_path):
    assert yaml.safe_load("values: 01") == {"values": 1}
    (tmp_path / "r.yaml").write_text("values: 01")
    assert load_recipe(tmp_path / "r.yaml").scheme.values == "unipolar"


def test_another_network_does_not_take_what_a_recipe_sets_for_the_papers():
    recipe = load_recipe("paper-cifar10").override({"threshold": "output", "latent_spread": 0.25})
    assert recipe.scheme.made == BinaryNormalized(MeanThreshold("unipolar", "output"), latent_spread=0.25)
    other = recipe.override({"model": "vgg", "scheme": "BinaryNet"})
    assert other.scheme.made == BinaryNet()
    assert recipe.override({"scheme": "Bipolar"}).scheme.made == Bipolar()
    kept = recipe.override({"model": "vgg", "latent-spread": 0.5})
    assert kept.scheme.made == BinaryNormalized(latent_spread=0.5)


def test_the_default_of_recipes_for_images_is_what_measured_best():
    assert ImageRecipe().scheme.made == Bipolar()
    for name in ("cifar10", "images", "best-food101-3x3"):
        assert load_recipe(name).scheme.made == Bipolar()
    assert load_recipe("cifar10").override({"latent_spread": 0.5}).scheme.made == Bipolar(latent_spread=0.5)
    assert load_recipe("paper-cifar10").scheme.made == BinaryNormalized()
    assert ImageRecipe(model="lstm").scheme.made == Bipolar(normalize="channel")
    assert TextRecipe(model="lstm").scheme.made == BinaryNormalized()


@pytest.mark.parametrize(
    ("keys", "form", "scheme"),
    [
        ({}, "best", BinaryWeightNetwork()),
        ({"latent_spread": 0.5}, "best", BinaryWeightNetwork(latent_spread=0.5)),
        ({"form": "all-bits"}, "all-bits", PureBits()),
        ({"form": "paper"}, "paper", BinaryNormalized()),
        ({"values": "bipolar"}, "paper", BinaryNormalized("bipolar")),
        ({"scheme": "BinaryNormalized"}, "paper", BinaryNormalized()),
        ({"scheme": "BitNet158"}, "best", BitNet158()),
        (
            {"scheme": {"name": "BitNet158", "latent_spread": 2.0}, "form": "paper"},
            "paper",
            BitNet158(latent_spread=2.0),
        ),
        ({"model": "gru"}, None, BinaryNormalized()),
    ],
)
def test_a_decoder_is_of_the_best_form_unless_its_recipe_says_something_of_the_papers(keys, form, scheme):
    recipe = TextRecipe(**keys)
    assert (recipe.model.form, recipe.scheme.made) == (form, scheme)
    assert recipe.override({"seed": 0}) == recipe


def test_recipes_of_text_from_before_there_were_forms_mean_the_papers(tmp_path):
    (tmp_path / "flat.yaml").write_text("kind: text\nsize: tiny\nresidual_scale: 0.35\n")
    held = TextRecipe(form="paper", latent_spread=0.25).to_dict()
    del held["model"]["form"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(held))
    for name in ("flat", "run"):
        assert load_recipe(tmp_path / f"{name}.yaml").model.form == "paper"
    assert load_recipe(tmp_path / "run.yaml") == TextRecipe(form="paper", latent_spread=0.25)
    # A file of today without it is a decoder of the form that measured best; one that names the paper's scheme is the paper's.
    (tmp_path / "new.yaml").write_text("kind: text\nmodel: {size: mini}\n")
    assert load_recipe(tmp_path / "new.yaml") == TextRecipe(size="mini")
    (tmp_path / "new.yaml").write_text("kind: text\nmodel: {size: mini}\nscheme: {values: unipolar}\n")
    assert load_recipe(tmp_path / "new.yaml").model.form == "paper"
    (tmp_path / "new.yaml").write_text("kind: text\nmodel: {form: worst}\n")
    with pytest.raises(RecipeError, match=r"new.yaml\] form='worst': needs 'best' or 'all-bits' or 'paper'"):
        load_recipe(tmp_path / "new.yaml")


@pytest.mark.parametrize(("form", "scheme"), [("best", BinaryWeightNetwork()), ("all-bits", PureBits())])
def test_run_folders_of_when_a_form_had_one_scheme_have_that_scheme(tmp_path, form, scheme):
    held = TextRecipe(form=form).to_dict()
    for later in ("norm", "positions", "mlp", "kv_heads", "activation", "hidden_widening", "sub_norm"):
        del held["model"][later]
    held["scheme"] = {"name": "BinaryNormalized"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(held))
    assert load_recipe(tmp_path / "recipe.yaml").scheme.made == scheme
    # One of today may give the paper's scheme to any form.
    (tmp_path / "recipe.yaml").write_text(TextRecipe(form=form, scheme="BinaryNormalized").to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml").scheme.made == BinaryNormalized()


def test_a_network_of_another_kind_has_no_form():
    recipe = load_recipe("paper-tiny").override({"model": "lstm"})
    assert (recipe.model.form, recipe.scheme.made) == (None, BinaryNormalized())
    back = load_recipe("lstm").override({"model": "decoder", "hidden": None})
    assert (back.model.form, back.scheme.made) == ("best", BinaryWeightNetwork())


def test_a_recipe_of_version_0_1_0_composes_what_it_did(tmp_path):
    def composed(text):
        (tmp_path / "r.yaml").write_text(text)
        return load_recipe(tmp_path / "r.yaml").scheme.made

    bipolar = MeanThreshold("bipolar")
    assert composed("values: pm1\nnormalize: batch\n") == BinaryNormalized(bipolar, normalize="batch")
    assert composed("latent-spread: 0.5\n") == BinaryNormalized(latent_spread=0.5)
    assert composed("normalize: null\n") == BinaryNormalized(normalize=None)
    assert ImageRecipe(values="pm1").scheme.made == BinaryNormalized(bipolar)
    # Run folders hold every key.
    keys = "values: '01'\nnormalize: channel\nthreshold: layer\nlatent_spread: 1.0\nlatent_clip: null\n"
    assert composed(keys + "scheme: BinaryNormalized\nmodel: classifier\n") == BinaryNormalized()
    assert composed(keys + "scheme: XnorNet\nmodel: vgg\n") == XnorNet()
    assert composed("values: pm1\nthreshold: output\nlatent_clip: 0.5\n") == BinaryNormalized(
        MeanThreshold("bipolar", "output"), clip_latents=0.5
    )


def test_the_papers_network_takes_the_papers_schemes():
    with pytest.raises(
        RecipeError, match="scheme='XnorNet': use Bipolar, BinaryNormalized or Nested with model=classifier"
    ):
        ImageRecipe(scheme="XnorNet")


def laughs(levels):
    """A list that holds ten times a list that holds ten times ..., in a few bytes for each level."""
    lists = ["&a0 [9,9,9,9,9,9,9,9,9,9]"]
    lists += [f"&a{k} [{','.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels)]
    return f"kind: images\nimage_size: [{', '.join(lists)}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(9), r"references \(\*name\) are not allowed"),
        ("a: &x [*x]\n", r"references \(\*name\) are not allowed"),
        ("widths: " + "[" * 50_000, "many levels deep"),
        ("? " * 5_000, "many levels deep"),
        ("data: 2024-99-99\n", "is not YAML: month must be"),
        ("epochs: " + "9" * 5_000, "is not YAML: Exceeds the limit"),
        ("epochs: 0x" + "f" * 50_000, "epochs=a number of thousands of digits: needs a smaller number"),
        ("seed: 99999999999999999999", "seed=99999999999999999999: needs a smaller number"),
        ("learning_rate: 1" + "0" * 400, "needs a smaller number"),
        ("epochs: [" + "9," * 20_000 + "9]", r"epochs=\[9, 9, 9, 9, 9, 9, \.\.\.\]: needs an integer"),
        ("epochs: " + "a" * 90_000, "needs an integer"),
        ("scheme: " + "a" * 90_000, "use BinaryNormalized"),
        ("scheme: DoReFa(weights='" + "a" * 90_000 + "')", "quantizer of weights"),
        ("scheme: DoReFa(bits=" + "[" * 90 + "]" * 90 + ")", "write a name, or Name"),
        ("? " + "a" * 90_000 + "\n: 1", "unknown key"),
        ("kind: [" + "9," * 20_000 + "9]", "use images, text"),
        ("#" * 200_000, "more than 100,000 characters"),
    ],
)
def test_a_recipe_that_is_made_to_hang_or_to_flood_is_one_short_line(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 1500
    assert "\n" not in str(caught.value)


def test_a_flag_is_shortened_too():
    for text in (laughs(9).split(": ", 2)[2], "[" * 10_000, "9" * 5_000, "a" * 90_000):
        with pytest.raises(RecipeError, match="needs a list of 2 integers") as caught:
            ImageRecipe().override({"image_size": parse_text(text)}, "train")
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "x"},
        {"epochs": None},
        {"epochs": 1.5},
        {"epochs": True},
        {"data": 3},
        {"model": None},
        {"scheme": 3},
        {"hidden": "x"},
        {"image_size": [1, 2, 3]},
        {"batch_size": np.zeros(2)},
        {"model": np.zeros(3)},
    ],
)
def test_a_recipe_made_in_python_is_checked_as_a_file_is(values):
    key = next(iter(values))
    for make in (lambda: ImageRecipe(**values), lambda: ImageRecipe().override(values)):
        with pytest.raises(RecipeError, match=rf"^(\[recipe\] )?{key}=.*: needs ") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_lists_and_numbers_of_numpy_are_a_recipes_values():
    recipe = ImageRecipe(widths=[4, 8], epochs=np.int64(3), learning_rate=np.float32(0.5))
    assert (recipe.model.widths, recipe.schedule.epochs, recipe.optimizer.learning_rate) == ((4, 8), 3, 0.5)
    assert type(recipe.schedule.epochs) is int
    assert ImageRecipe().override({"epochs": np.int64(3), "widths": [4, 8], "learning_rate": 0.5}) == recipe


@pytest.mark.parametrize("values", ["x", None, 3, [("epochs", 1)], np.zeros(3)])
def test_overrides_are_a_mapping(values):
    for recipe in (ImageRecipe(), TextRecipe()):
        with pytest.raises(RecipeError, match=r"^\[recipe\] values of type \w+: give a dict of keys"):
            recipe.override(values)


def test_a_section_is_as_good_as_its_keys():
    flat = ImageRecipe(epochs=3, widths=[4, 8], schedule="linear", schedule_unit="epoch", teacher="runs/a")
    sections = ImageRecipe(
        schedule={"name": "linear", "epochs": 3, "unit": "epoch"}, model={"widths": [4, 8]}, teacher={"run": "runs/a"}
    )
    dotted = ImageRecipe().override(
        {
            "schedule.epochs": 3,
            "schedule.name": "linear",
            "schedule.unit": "epoch",
            "model.widths": [4, 8],
            "teacher.run": "runs/a",
        }
    )
    assert flat == sections == dotted == ImageRecipe(schedule=flat.schedule, model=flat.model, teacher=flat.teacher)
    assert flat.to_dict()["schedule"]["epochs"] == flat.flat()["epochs"] == flat.schedule.epochs == 3


def test_a_scheme_is_a_name_with_options():
    made = DoReFa(weights=1, activations=4)
    for scheme in ({"name": "DoReFa", "weights": 1, "activations": 4}, "DoReFa(weights=1, activations=4)"):
        recipe = ImageRecipe(model="vgg", scheme=scheme)
        assert recipe.scheme.made == made
        assert recipe.to_dict()["scheme"] == {"name": "DoReFa", "weights": 1, "activations": 4}
        assert yaml.safe_load(recipe.to_yaml())["scheme"]["weights"] == 1
    two = recipe.override({"scheme.weights": 2})
    assert two.scheme.made == DoReFa(weights=2, activations=4)
    assert two.override({"scheme": "XnorNet"}).scheme.made == XnorNet()
    flags = {"model": "vgg", "scheme": "DoReFa", "scheme.weights": 1, "scheme.activations": 4}
    assert ImageRecipe().override(flags).scheme.made == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": {"epoch": 3}}, "unknown key 'schedule.epoch'; did you mean 'epochs'"),
        ({"schedule.epoch": 3}, "unknown key 'schedule.epoch'; did you mean 'epochs'"),
        ({"run": 3}, "run=3: give its keys, such as run: {seed: 0}"),
        ({"schedule": 3}, "schedule=3: needs 'constant' or 'linear' or 'cosine'"),
        ({"scheme": {"name": "XnorNet", "bits": 2}, "model": "vgg"}, "XnorNet has no option 'bits': use weights"),
        ({"scheme": {"weights": 9, "name": "DoReFa"}, "model": "vgg"}, r"\[KBitWeights\] bits=9: use 1 to 8"),
        ({"heads": 4}, "unknown key 'heads': it is of recipes of text, and this is one of images"),
        ({"kv-heads": 4}, "unknown key 'kv-heads': it is of recipes of text, and this is one of images"),
        ({"weights": 2}, r"unknown key 'weights': an option of the scheme is given as scheme\.weights"),
        ({"optimizer": "bop", "learned_scales": True}, "learned_scales=True: use optimizer=adam with it"),
        ({"epochs": 3, "schedule": {"epochs": 4}}, "schedule.epochs is given twice, in its section and by its short"),
        ({"epochs": 3, "schedule.epochs": 4}, "schedule.epochs is given twice"),
        ({"scheme": {"name": "DoReFa(weights=2)", "weights": 1}, "model": "vgg"}, "scheme.weights is given twice"),
    ],
)
def test_wrong_sections_are_named(values, message):
    with pytest.raises(RecipeError, match=message) as caught:
        ImageRecipe().override(values, "here")
    assert "\n" not in str(caught.value)


def test_what_an_attribute_is_called_now():
    with pytest.raises(AttributeError, match=r"ImageRecipe has no attribute 'epochs': it is \.schedule\.epochs"):
        _ = ImageRecipe().epochs
    with pytest.raises(AttributeError, match="no attribute 'colour'$"):
        _ = ImageRecipe().colour


FLAT = """
kind: images
data: digits
image_size: [16, 16]
widths: [16, 32, 64]
values: 'pm1'
normalize: batch
scheme: BinaryNormalized
threshold: layer
latent_spread: 1.0
epochs: 20
schedule: linear
schedule_unit: epoch
optimizer: adam
teacher: null
distill_weight: 0.25
model: classifier
"""


def test_a_flat_file_of_version_0_1_0_means_what_it_meant(tmp_path):
    (tmp_path / "r.yaml").write_text(FLAT)
    recipe = load_recipe(tmp_path / "r.yaml")
    made = BinaryNormalized(MeanThreshold("bipolar"), normalize="batch")
    assert (recipe.scheme.made, recipe.model.widths, recipe.schedule.epochs) == (made, (16, 32, 64), 20)
    assert (recipe.schedule.name, recipe.schedule.unit, recipe.teacher.weight) == ("linear", "epoch", 0.25)
    # Other networks passed over what is said of the paper's scheme.
    (tmp_path / "r.yaml").write_text(FLAT.replace("model: classifier", "model: vgg"))
    assert load_recipe(tmp_path / "r.yaml").scheme.made == BinaryNormalized()
    text = "kind: text\nmodel: lstm\nscheme: BinaryConnect\nvalues: unipolar\nthreshold: layer\nlatent_spread: 0.25\n"
    (tmp_path / "r.yaml").write_text(text)
    assert load_recipe(tmp_path / "r.yaml").scheme.made == BinaryConnect(latent_spread=0.25)


def test_the_best_form_takes_other_schemes():
    keys = {"form": "best", "scheme": "KBitWeightNetwork", "scheme.weights": 4, "features": 32, "blocks": 1}
    recipe = load_recipe("tiny").override(keys)
    model = build_model(recipe, TextTask(("[PAD]", "[UNK]", "[SEP]", "a", "b"), "words"))
    schemes = {layer.scheme for name, layer in binary_layers(model).items() if not name.startswith("embedding")}
    assert schemes == {KBitWeightNetwork(4)}


def test_a_form_brings_its_own_scheme_and_options():
    keys = {"size": "mini", "form": "paper", "residual_scale": 0.35, "logit_scale": 3.0, "embedding_spread": 0.1}
    paper = TextRecipe(**keys, values="unipolar", latent_spread=0.25)
    recipe = paper.override({"form": "all-bits"})
    assert (recipe.model.form, recipe.scheme.made) == ("all-bits", PureBits())
    of_form = ("residual_scale", "logit_scale", "embedding_widening", "pre_norm")
    assert [getattr(recipe.model, name) for name in of_form] == [None] * 4
    assert recipe.model.embedding_spread == 1.0
    assert recipe.model.size == "mini"
    kept = paper.override({"form": "best", "residual_scale": 0.5})
    assert (kept.model.residual_scale, kept.model.pre_norm) == (0.5, None)
    assert paper.override({"form": "paper"}) == paper


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"form": "worst"}, "form='worst': needs 'best' or 'all-bits' or 'paper'"),
        ({"form": "best", "threshold": "output"}, "threshold='output': use it with BinaryNormalized or Bipolar"),
        ({"form": "best", "model": "lstm"}, "form='best': use it with model=decoder"),
        ({"form": "all-bits", "scheme": "BitNet158"}, "form='all-bits' cannot take scheme=BitNet158"),
        ({"form": "all-bits", "learned_scales": True}, "learned_scales=True: use form=best with it"),
    ],
)
def test_a_form_that_does_not_go_with_the_rest_is_refused(keys, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("paper-tiny").override(keys)


def test_the_packages_decoder_has_its_recipe():
    from onebit.fileformat import load_model
    from onebit.packing.pack import to_packed_model
    from onebit.pretrained import find
    from onebit.training.jobs.text import TextJob

    recipe = load_recipe("books-31m")
    packed, task = load_model(find("books-31m")), onebit.load("books-31m", threads=1).task
    made = to_packed_model(TextJob.build(recipe, task), task)
    assert made.program.to_json() == packed.program.to_json()
    assert {n: t.shape for n, t in made.tensors.items()} == {n: t.shape for n, t in packed.tensors.items()}

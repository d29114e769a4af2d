"""Recipes: the bundled ones are whole, and a wrong one is named."""

from pathlib import Path

import pytest

from fcn_edge import models
from fcn_edge.errors import DataError
from fcn_edge.runtime.files import bundled
from fcn_edge.training.recipe import Recipe, find_recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_bundled_recipe_is_read_and_fits_its_variants(path):
    recipe = read_recipe(path)
    for variant in (recipe.variant, *recipe.serves):
        assert variant in models.VARIANTS
        assert recipe.padding in models.VARIANTS[variant].padding


def test_a_bundled_recipe_is_found_by_its_name():
    assert read_recipe(Path("camvid")) == read_recipe(RECIPES[0].parent / "camvid.toml")


@pytest.mark.parametrize("variant", sorted(models.VARIANTS.keys() - {"tiny", "tiny-plain"}))
def test_a_variant_has_a_bundled_recipe(variant):
    recipe = read_recipe(find_recipe(variant))
    assert variant in (recipe.variant, *recipe.serves)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_figures_of_a_bundled_recipe_have_their_reasons_beside_them(path):
    figures = path.read_text().partition("[card]")[0]
    assert figures.startswith("#")
    assert figures.count("#") >= 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('variant = "tiny"\nbatch = 1\nrate = 1\nsteps = "many"', "steps"),
        ('variant = "tiny"\nbatch = 1\nrate = 1\nsteps = 4\nmomentun = 0.9', "momentun"),
        ('variant = "tiny"\nbatch = 1\nrate = 1', "either `steps` or `epochs`"),
        ('variant = "tiny"\nbatch = 1\nrate = 1\nsteps = 4\nepochs = 2', "either `steps` or `epochs`"),
        ('variant = "tiny"\nbatch = 4\nrate = 1\nsteps = 4\ncrop = 8\naccumulate = 3', "3 equal parts"),
        ('variant = "tiny"\nbatch = 4\nrate = 1\nsteps = 4\nsoft_weight = 1\nloss_stride = 3', "loss_stride = 3"),
        ("steps = ", "not a training recipe"),
        (
            'variant = "tiny"\nbatch = 1\nrate = 1\nsteps = 4\n[card]\nlicence = "MIT"',
            "no entry licence; there are .*license",
        ),
    ],
)
def test_a_wrong_figure_is_named(tmp_path, text, told):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(DataError, match=told):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ("steps = 0", "at least 1"),
        ("epochs = -1", "above 0"),
        ("batch = 0", "at least 1"),
        ("crop = -32", "at least 1"),
        ("longer_side = [0, 400]", "at least 1"),
        ("longer_side = [800, 400]", "the smaller one, then the larger"),
        ("validate_every = 0", "at least 1"),
        ("hold_back = 1", "at least 2"),
        ("rate = -1", "above 0"),
        ("rate = inf", "above 0"),
        ("rate = nan", "above 0"),
        ("pretrained_rate = -0.1", "at least 0"),
        ("warmup = -1", "at least 0"),
        ("seed = -1", "at least 0"),
        ("flip = 7", "from 0 to 1"),
        ("color = 1.5", "from 0 to 1"),
        ("ema = 1.5", "at least 0 and below 1"),
        ("momentum = 1", "at least 0 and below 1"),
        ("class_weights = {cat = -1}", "at least 0"),
    ],
)
def test_a_figure_out_of_its_range_is_named_with_what_it_may_be(tmp_path, figure, told):
    name = figure.partition(" ")[0]
    others = {"variant": '"tiny"', "batch": "4", "rate": "1", "steps": "4"}
    del others["steps" if name == "epochs" else name if name in others else "variant"]
    others.setdefault("variant", '"tiny"')
    (tmp_path / "r.toml").write_text("\n".join([figure, *(f"{key} = {value}" for key, value in others.items())]))
    with pytest.raises(DataError, match=f"{name} = .*, and it has to be {told}"):
        read_recipe(tmp_path / "r.toml")


def test_a_missing_recipe_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"r\.toml: there is no such recipe\. Those of recipes/ are 60-epochs, camvid"):
        read_recipe(tmp_path / "r.toml")


def test_epochs_become_steps_by_the_number_of_pictures():
    recipe = Recipe("tiny", batch=20, rate=1, epochs=3)
    assert recipe.last_step(1464) == 220  # 3 * 1464 / 20 = 219.6
    assert [step for step in range(1, 221) if recipe.validates_at(step, 1464)] == [74, 147, 220]


def test_fewer_steps_warm_up_and_freeze_the_trunk_for_the_same_share():
    recipe = Recipe("tiny", batch=16, rate=1, steps=1000, frozen_trunk_steps=200, warmup=100)
    shorter = recipe.in_steps(10, 1000)
    assert (shorter.frozen_trunk_steps, shorter.warmup) == (2, 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_a_bundled_recipe_freezes_is_there_and_what_it_says_of_data_is_its_own_models(path):
    recipe = read_recipe(path)
    for variant in (recipe.variant, *recipe.serves) if recipe.frozen else ():
        names = [name for name, _ in models.build(variant, 21, recipe.padding).named_parameters()]
        assert all(any(name.startswith(prefix) for name in names) for prefix in recipe.frozen)
    assert path.stem in bundled() or not (recipe.card or recipe.thin)

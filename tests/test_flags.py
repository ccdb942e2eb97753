import pathlib

from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags

EXPECTED = pathlib.Path(__file__).parent / "expected" / "flags.txt"


def test_the_flags_are_those_that_were_agreed(request):
    values = flags.FlagValues()
    recipe_flags.define(zoo.PARTS, values)
    text = "".join(f"--{name}  {values[name].flag_type()}\n" for name in sorted(values))
    if request.config.getoption("accept"):
        EXPECTED.write_text(text, encoding="utf-8")
    assert text == EXPECTED.read_text(encoding="utf-8"), (
        "the list of flags changed; if that is intended, run this test with --accept and commit"
        f" {EXPECTED.name}"
    )

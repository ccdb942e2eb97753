"""What a JSON file may be, and how a value that is not what it must be is named."""

import json
import os

import pytest

from deeplab_tf.recipe.json_files import checked, parse, read_json

_SCHEMA = {
    "step": int,
    "score": float,
    "name": str,
    "flag": bool,
    "size": tuple[int, int] | None,
    "colors": tuple[tuple[int, int, int], ...],
    "splits": dict[str, int],
}
_TREE = {
    "step": 3,
    "score": 0.5,
    "name": "größer",
    "flag": False,
    "size": [1, 2],
    "colors": [[0, 0, 0], [1, 2, 3]],
    "splits": {"train": 4},
}


def test_values_come_as_they_are_with_tuples_for_lists():
    assert checked(_TREE, _SCHEMA) == {
        **_TREE,
        "size": (1, 2),
        "colors": ((0, 0, 0), (1, 2, 3)),
    }


def test_a_missing_key_and_an_unknown_one_are_named():
    with pytest.raises(ValueError, match=r"^step must be there; it is missing\.$"):
        checked({}, {"step": int})
    with pytest.raises(ValueError, match=r"^unknown key 'stepp'; known: step. Did you mean 'step'"):
        checked({"step": 1, "stepp": 2}, {"step": int})
    with pytest.raises(ValueError, match=r"^unknown key of best 'stepp'; known: step"):
        checked({"step": 1, "stepp": 2}, {"step": int}, path="best")


def test_other_keys_have_the_type_of_others():
    assert checked({"step": 1, "mean_iou": 0.5}, {"step": int}, others=float)
    with pytest.raises(ValueError, match="^mean_iou must be a number; got 'high'"):
        checked({"step": 1, "mean_iou": "high"}, {"step": int}, others=float)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("step", 1.0, "step must be an integer; got 1.0."),
        ("step", True, "step must be an integer; got True."),
        ("step", 10**30, "step must be an integer; got 1e+30."),
        ("score", "0.5", "score must be a number; got '0.5'."),
        ("name", None, "name must be text; got None."),
        ("flag", 1, "flag must be true or false; got 1."),
        ("flag", "false", "flag must be true or false; got 'false'."),
        ("size", [1], "size must be a list of 2; got [1]."),
        ("colors", [[0, 0, 0], [1, 2]], "colors[1] must be a list of 3; got [1, 2]."),
        ("colors", [[0, 0, "0"]], "colors[0][2] must be an integer; got '0'."),
        ("colors", {"0": 1}, "colors must be a list; got {'0': 1}."),
        ("splits", {"val": None}, "splits.val must be an integer; got None."),
        ("splits", [], "splits must be an object; got []."),
        ("name", ["x" * 10**6] * 10, "name must be text; got ['xxx"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_path(key, value, message):
    with pytest.raises(ValueError) as caught:
        checked(parse(json.dumps({**_TREE, key: value})), {**_SCHEMA, "size": tuple[int, int]})
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable JSON: "),
        ('{"a": 1', "not readable JSON: "),
        ("{'a': 1}", "not readable JSON: "),
        ('{"a": 1} 2', "not readable JSON: "),
        ("[1]", "the top level must be an object; got [1]."),
        ("null", "the top level must be an object; got None."),
        ('{"a": {"b": 1, "b": 2}}', "a.b must be there once; it is there twice."),
        ('{"a": [0, {"b": NaN}]}', "a[1].b must be a finite number; got nan."),
        ('{"a": -Infinity}', "a must be a finite number; got -inf."),
        ('{"a": 1e999}', "a must be a finite number; got inf."),
        ('{"a": ' + "9" * 5000 + "}", "a must be a finite number; got inf."),
        (r'{"a": "\ud800"}', r"a must be Unicode text; got '\ud800'."),
        (r'{"\udfff": 1}', r"'\udfff' must be Unicode text; got"),
        ('{"a": ' * 33 + "1" + "}" * 33, "a.a.a.a"),
        ('{"a": ' * 10**5 + "1" + "}" * 10**5, "JSON must nest at most 32 deep."),
        ("[" * 10**5, "JSON must nest at most 32 deep."),
        ('{"line\\nbreak": NaN}', "'line\\nbreak' must be a finite number; got nan."),
    ],
)
def test_text_that_is_not_one_object_of_plain_values_is_refused(text, message):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_editors_mark_and_a_depth_of_32_are_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"step": 1}')
    assert read_json(str(path), lambda tree: checked(tree, {"step": int})) == {"step": 1}
    assert parse('{"a": ' * 31 + "1" + "}" * 31)


def test_the_file_is_named(tmp_path):
    path = tmp_path / "best.json"
    contents = {
        b"\xff\xfe": "it must be text in UTF-8",
        b'{"step": "1"}': "step must be an integer; got '1'.",
        b'{"a": "' + b"x" * 2**23 + b'"}': "it must have at most 8,388,608 bytes; it has more.",
    }
    for content, message in contents.items():
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            read_json(str(path), lambda tree: checked(tree, {"step": int}))
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        read_json(str(tmp_path / "missing.json"), dict)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path):
        with pytest.raises(ValueError, match="it must be a regular file"):
            read_json(str(path), dict)

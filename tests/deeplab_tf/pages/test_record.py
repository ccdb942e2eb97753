import json

import keras
import numpy as np

from deeplab_tf.pages.record import data_fingerprint, fingerprint, record_section


def weights(**values) -> dict[str, keras.Variable]:
    return {name: keras.Variable(np.asarray(x, np.float32)) for name, x in values.items()}


def test_the_fingerprint_is_that_of_names_and_values_in_any_order():
    found = fingerprint(weights(a=[1, 2], b=[[3]]))
    assert found == fingerprint(weights(b=[[3]], a=[1, 2])) and len(found) == 16
    others = [
        weights(a=[1, 2.0000002], b=[[3]]),
        weights(a=[1, 2], c=[[3]]),
        weights(a=[1, 2], b=[3]),
        weights(a=[1], b=[[2, 3]]),
    ]
    assert found not in {fingerprint(other) for other in others}


def test_the_fingerprint_of_the_data_is_that_of_names_and_labels_in_their_order():
    def of(names=("a", "b"), labels=((2, 0), (1, 1)), dtype=np.int64):
        return data_fingerprint(names, np.array(labels, dtype))

    assert len(of()) == 16 and int(of(), 16) and of() == of(dtype=np.int32)
    others = [of(("a", "c")), of(("b", "a")), of(labels=((2, 0), (0, 2))), of(labels=((2,), (1,)))]
    assert of() not in others


def test_a_record_shows_all_rows_and_recipes(scored, evil, read_page):
    spec = scored().spec
    source = record_section({"command": evil}, {evil: {"model": evil}}, spec)
    page = read_page(source)
    assert page.text.count(evil) == 2  # the command, a title
    assert page.text.count(json.dumps(evil)) == 2  # the recipe, a class
    assert evil not in source and len(page.all("details")) == 2

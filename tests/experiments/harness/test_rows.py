from experiments.harness import rows


def test_a_new_measurement_replaces_that_of_the_same_backend_only(tmp_path):
    row = {"device": "cpu", "dtype": "float32", "quantity": "step", "value": 1.0}
    rows.add(tmp_path, "steps", [row | {"backend": "jax"}, row | {"backend": "torch"}])
    rows.add(tmp_path, "steps", [row | {"backend": "jax", "value": 2.0}])
    found = rows.read(tmp_path, "steps")
    assert list(found.columns) == rows.COLUMNS
    assert found.set_index("backend")["value"].to_dict() == {"torch": 1.0, "jax": 2.0}


def test_what_was_not_measured_has_no_rows(tmp_path):
    assert rows.read(tmp_path, "steps").empty

"""`onebit summary`."""

import json

from onebit.cli.main import main


def test_a_run_of_images(run_folder, capsys):
    assert main(["summary", str(run_folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    first = result["layers"][0]
    assert (first["kind"], first["bits"], first["output_shape"]) == ("BinaryConv2d", 1, [1, 8, 16, 16])
    assert first["bit_macs"] == 8 * 16 * 16 * 27
    assert main(["summary", str(run_folder)]) == 0
    assert f"{result['total']['packed_bytes']:,} packed" in capsys.readouterr().out

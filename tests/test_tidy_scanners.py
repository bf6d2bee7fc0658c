"""The scanners that `test_tidy.py` reads sources by, on text where the answer is known."""

from __future__ import annotations

import ast

from tests.tidy import python, rust


def test_rust_scanner_sees_through_literals_and_comments() -> None:
    source = rust.blank(
        'fn a() { "}"; \'{\'; r#"}"}"#; /* } /* } */ } */ // }\n}\nfn declared();\nfn c<\'a>(x: [u8; 2]) -> &\'a str {\n\n}\n'
    )
    assert [(found.name, found.line, found.lines) for found in rust.functions(source)] == [("a", 1, 2), ("c", 4, 3)]


def test_rust_scanner_reads_uses_and_drops_tests() -> None:
    source = rust.blank(
        "use crate::raw::RawBatch;\nuse crate::{batch::{Batch, Column}, error, spec as s};\n"
        "mod inner;\n#[cfg(test)]\nmod tests { use crate::pipeline::Pipeline; }\n"
    )
    assert rust.crate_uses(rust.without_tests(source)) == {"raw", "batch", "error", "spec"}
    assert rust.submodules(source) == ["inner"]


def test_python_scanner_tells_lazy_from_eager() -> None:
    module = ast.parse("import a\nif TYPE_CHECKING:\n    import never\ndef f():\n    from b import c\n")
    found = {(entry.module, entry.lazy) for entry in python._imports(module, lazy=False)}
    assert found == {("a", False), ("b", True), ("b.c", True)}

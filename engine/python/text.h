// Texts and tokens in the Python module.
#pragma once

#include <nanobind/nanobind.h>

void bind_tokenizer(nanobind::module_& module);

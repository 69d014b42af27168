// Makes a mutated program one that fits together, as far as it goes, so that mutations reach the code that runs it.
#pragma once

#include "model_text.h"

namespace fuzz {

// Sizes that follow from a step's input become what they must be, and tensors get the shapes that their steps ask for. Stops at the first step
// that it does not understand.
void repair(Json& program, std::map<std::string, Tensor>& tensors);

}  // namespace fuzz

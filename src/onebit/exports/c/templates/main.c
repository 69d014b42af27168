/* One run of the network, on inputs that are all 0. */
#include "@name@.h"

#include <stdio.h>

static @type@ inputs[@NAME@_INPUTS];
static float outputs[@NAME@_OUTPUTS];

int main(void) {
    int best = 0;
    @name@_run(inputs, outputs);
    for (int i = 1; i < @NAME@_OUTPUTS; ++i) {
        if (outputs[i] > outputs[best]) best = i;
    }
    printf("the largest output is number %d\n", best);
    return 0;
}

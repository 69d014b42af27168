#include <@name@.h>

static @type@ inputs[@NAME@_INPUTS];
static float outputs[@NAME@_OUTPUTS];

void setup() {
    Serial.begin(115200);
}

void loop() {
    int best = 0;
    @name@_run(inputs, outputs);
    for (int i = 1; i < @NAME@_OUTPUTS; ++i) {
        if (outputs[i] > outputs[best]) best = i;
    }
    Serial.println(best);
    delay(1000);
}

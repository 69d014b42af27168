/* needs: sigmoid */
static float silu_of(float x) {
    return x * sigmoid_of(x);
}

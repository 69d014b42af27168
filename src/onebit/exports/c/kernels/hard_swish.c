/* needs: hard_sigmoid */
static float hard_swish_of(float x) {
    return x * hard_sigmoid_of(x);
}

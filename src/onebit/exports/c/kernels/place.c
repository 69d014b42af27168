/* The row and the column of the i-th output: window by window of a pooling, or line by line where the window is one place. */
static void place(int32_t i, int32_t width, int32_t pool_h, int32_t pool_w, int32_t *at) {
    const int32_t size = pool_h * pool_w, across = width / pool_w, window = i / size, within = i % size;
    at[0] = window / across * pool_h + within / pool_w;
    at[1] = window % across * pool_w + within % pool_w;
}

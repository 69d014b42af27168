/* A window over an image: channels of a pixel, those of a group and how many groups, kernel, strides, the padding before, dilation. */
struct window {
    int32_t height, width, channels, of_group, groups;
    int32_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
};

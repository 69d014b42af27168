// Pictures as a model takes them.

const GREY = [19595, 38470, 7471]; // of 65,536, as Pillow weighs red, green and blue

// RGBA to the model's channels: grey, or red, green and blue.
function channelsOf(rgba, channels) {
  const count = rgba.length / 4, pixels = new Uint8Array(count * channels);
  for (let i = 0; i < count; ++i) {
    const [red, green, blue] = rgba.subarray(4 * i, 4 * i + 3);
    if (channels === 1) pixels[i] = (red * GREY[0] + green * GREY[1] + blue * GREY[2] + 0x8000) >> 16;
    else pixels.set([red, green, blue], 3 * i);
  }
  return pixels;
}

function paper(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** A picture that covers the model's size, with its centre cut out; what is transparent is white. */
export function pixelsOf(bitmap, [height, width, channels]) {
  const to = paper(width, height);
  to.fillStyle = "#fff";
  to.fillRect(0, 0, width, height);
  to.imageSmoothingQuality = "high";
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const across = bitmap.width * scale, down = bitmap.height * scale;
  to.drawImage(bitmap, (width - across) / 2, (height - down) / 2, across, down);
  return channelsOf(to.getImageData(0, 0, width, height).data, channels);
}

/** What was drawn, as scanned digits are: as high as the picture, and in its middle. Null if nothing was. */
export function fit(canvas, [height, width, channels]) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let left = canvas.width, right = -1, top = canvas.height, bottom = -1;
  for (let y = 0; y < canvas.height; ++y) {
    for (let x = 0; x < canvas.width; ++x) {
      if (data[4 * (y * canvas.width + x)] < 128) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  if (right < 0) return null;
  const across = right - left + 1, down = bottom - top + 1, size = Math.max(across, down);
  const to = paper(width, height);
  to.fillStyle = "#000";
  to.fillRect(0, 0, width, height);
  to.imageSmoothingQuality = "high";
  const scale = Math.min(width, height) / size;
  to.drawImage(canvas, left, top, across, down, (width - across * scale) / 2, (height - down * scale) / 2, across * scale, down * scale);
  return channelsOf(to.getImageData(0, 0, width, height).data, channels);
}

/** Shows pixels on a canvas of their size. */
export function draw(canvas, pixels, width, height, channels) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; ++i) {
    for (let c = 0; c < 3; ++c) image.data[4 * i + c] = pixels[channels === 1 ? i : 3 * i + c];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

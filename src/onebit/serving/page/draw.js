// Drawing on a canvas with a pen, a finger or a mouse, and pictures that are dropped on it.

/** Make a canvas one to draw on. Calls `changed` with a function that gives the picture as a blob. */
export function drawable(canvas, changed) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let dark = false, last = null, drawn = [];
  const colours = () => (dark ? ["#fff", "#000"] : ["#000", "#fff"]);
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  };

  /** The drawing as a picture. What was drawn fills it, as the digits that models learn from fill theirs. */
  function picture() {
    const half = canvas.width / 14 + 4;
    const [left, right] = [Math.min(...drawn.map(([x]) => x)) - half, Math.max(...drawn.map(([x]) => x)) + half];
    const [top, bottom] = [Math.min(...drawn.map(([, y]) => y)) - half, Math.max(...drawn.map(([, y]) => y)) + half];
    const side = Math.max(right - left, bottom - top);
    const fitted = document.createElement("canvas");
    fitted.width = fitted.height = canvas.width;
    const onto = fitted.getContext("2d");
    onto.fillStyle = colours()[0];
    onto.fillRect(0, 0, fitted.width, fitted.height);
    const scale = fitted.width / side;
    onto.setTransform(scale, 0, 0, scale, (side - left - right) / 2 * scale, (side - top - bottom) / 2 * scale);
    onto.drawImage(canvas, 0, 0);
    return new Promise((done) => fitted.toBlob(done, "image/png"));
  }

  function wipe() {
    drawn = [];
    context.fillStyle = colours()[0];
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  function line(from, to) {
    drawn.push(from, to);
    context.strokeStyle = colours()[1];
    context.lineWidth = canvas.width / 7;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    line(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (last) changed(picture);
      last = null;
    });
  }
  canvas.addEventListener("dragover", (event) => {
    event.preventDefault();
    canvas.classList.add("over");
  });
  canvas.addEventListener("dragleave", () => canvas.classList.remove("over"));
  canvas.addEventListener("drop", (event) => {
    event.preventDefault();
    canvas.classList.remove("over");
    if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
  });

  /** Show a file's picture; the file itself is what is classified. */
  async function show(file) {
    try {
      const image = await createImageBitmap(file);
      const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
      const [width, height] = [image.width * scale, image.height * scale];
      wipe();
      context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    } catch {
      wipe(); // the server says what is wrong with it
    }
    changed(async () => file);
  }

  wipe();
  return {
    wipe,
    show,
    invert(on) {
      dark = on;
      wipe();
    },
  };
}

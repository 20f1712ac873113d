
// The window on a picture: its left and top in pixels of the picture, and its scale.
const TALLEST = 0.72; // of the browser's window
const LARGEST = 1.5; // how much a small picture grows to fill its stage
const DEEPEST = 16; // times as near as the whole

function windowOn(stage, sizeOf, onLook) {
  let box = { x: 0, y: 0, scale: 1, least: 1 };

  const scaleOf = ([width, height]) =>
    Math.min(LARGEST, stage.clientWidth / width, Math.max(stage.clientHeight, innerHeight * TALLEST) / height);

  function fit() {
    const [width, height] = sizeOf();
    const room = stage.clientWidth;
    const tall = Math.max(320, Math.min(height * Math.min(LARGEST, room / width), innerHeight * TALLEST));
    stage.style.minHeight = `${Math.round(tall)}px`;
    if (!room) return; // not laid out yet
    const scale = scaleOf(sizeOf());
    look(width / 2 - room / scale / 2, height / 2 - stage.clientHeight / scale / 2, scale, scale);
  }

  function look(x, y, scale, least = box.least) {
    const close = Math.max(least, Math.min(scale, least * DEEPEST));
    const [w, h] = [stage.clientWidth / close, stage.clientHeight / close];
    const [width, height] = sizeOf();
    const bound = (at, seen, whole) => Math.max(Math.min(0, whole - seen), Math.min(at, Math.max(0, whole - seen)));
    const loose = (at, seen, whole) => seen >= whole && close === least ? (whole - seen) / 2 : bound(at, seen, whole);
    box = { x: loose(x, w, width), y: loose(y, h, height), scale: close, least };
    stage.classList.toggle("zoomed", close > least * 1.001);
    onLook([box.x, box.y, w, h].map((v) => v.toFixed(2)).join(" "));
  }

  function zoom(factor, px = stage.clientWidth / 2, py = stage.clientHeight / 2) {
    const { x, y, scale, least } = box;
    const next = Math.max(least, Math.min(scale * factor, least * DEEPEST));
    look(x + px / scale - px / next, y + py / scale - py / next, next);
  }

  function pan(dx, dy) {
    look(box.x - dx / box.scale, box.y - dy / box.scale, box.scale);
  }

  function uncover(node) {
    const [own, seen] = [node.getBoundingClientRect(), stage.getBoundingClientRect()];
    const over = (low, high, from, to) => Math.max(0, from + 8 - low) - Math.max(0, high - to + 8);
    const dx = over(own.left, own.right, seen.left, seen.right);
    const dy = over(own.top, own.bottom, seen.top, seen.bottom);
    if (dx || dy) pan(dx, dy);
  }

  return { fit, zoom, pan, uncover, scaleOf };
}

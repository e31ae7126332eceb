// Points on a canvas. Pixels are written by hand into one image: 100,000 points take a few milliseconds a frame, without
// WebGL, which headless and remote machines emulate. A grid of cells finds the point under the pointer.

/** Grid of cells over the points: nearest point of a place. */
export function gridOf(x, y, cells = 128) {
  const heads = new Int32Array(cells * cells).fill(-1);
  const next = new Int32Array(x.length);
  const at = (value) => Math.min(cells - 1, Math.max(0, Math.floor(((value + 1) / 2) * cells)));
  for (let i = 0; i < x.length; i++) {
    const cell = at(y[i]) * cells + at(x[i]);
    next[i] = heads[cell];
    heads[cell] = i;
  }
  return {
    /** Nearest point within `radius` of a place for which `shown(i)` holds; -1 without one. */
    nearest(px, py, radius, shown) {
      let best = -1;
      let least = radius * radius;
      for (let row = at(py - radius); row <= at(py + radius); row++)
        for (let column = at(px - radius); column <= at(px + radius); column++)
          for (let i = heads[row * cells + column]; i >= 0; i = next[i]) {
            const d = (x[i] - px) ** 2 + (y[i] - py) ** 2;
            if (d <= least && shown(i)) [best, least] = [i, d];
          }
      return best;
    },
  };
}

/** Whether a place is in a polygon `[x0, y0, x1, y1, …]`, by the crossings of a ray. */
export function inside(polygon, px, py) {
  let is = false;
  for (let i = 0, j = polygon.length - 2; i < polygon.length; j = i, i += 2) {
    const [xi, yi, xj, yj] = [polygon[i], polygon[i + 1], polygon[j], polygon[j + 1]];
    if (yi > py !== yj > py && px < ((xj - xi) * (py - yi)) / (yj - yi) + xi) is = !is;
  }
  return is;
}

/** Polygon of at most `most` corners, for an address. */
export function thinned(polygon, most = 40) {
  const corners = polygon.length / 2;
  const step = Math.max(1, Math.ceil(corners / most));
  const kept = [];
  for (let i = 0; i < corners; i += step) kept.push(Math.round(polygon[2 * i] * 1000) / 1000, Math.round(polygon[2 * i + 1] * 1000) / 1000);
  return kept;
}

/** Picture of the plane: `view` is `{x, y, scale}`, its middle and the pixels of one unit. */
export function toScreen(view, width, height, x, y) {
  return [width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale];
}
export function toPlane(view, width, height, px, py) {
  return [view.x + (px - width / 2) / view.scale, view.y - (py - height / 2) / view.scale];
}

/** Steps from the middle of a point to each of its pixels, in an image of `width`. */
function stencil(radius, width) {
  const steps = [];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++)
    for (let dx = -reach; dx <= reach; dx++) if (dx * dx + dy * dy <= radius * radius + 0.8 * radius) steps.push(dy * width + dx);
  return Int32Array.from(steps);
}

/** Draw points; `order` has the indexes of those shown, the last on top, `colours` 0xAABBGGRR of each. `size` in pixels. */
export function draw(canvas, { x, y, order, colours, view, size, chosen, ring }) {
  const { width, height } = canvas;
  if (!width || !height) return;
  const context = canvas.getContext("2d");
  const edge = Math.ceil(size) + 3; // around the image, so that no pixel of a point needs a check
  const [wide, high] = [width + 2 * edge, height + 2 * edge];
  const image = canvas.image?.width === wide && canvas.image?.height === high ? canvas.image : new ImageData(wide, high);
  canvas.image = image;
  const pixels = new Uint32Array(image.data.buffer);
  pixels.fill(0);
  const { scale } = view;
  const [left, top] = [width / 2 - view.x * scale + edge + 0.5, height / 2 + view.y * scale + edge + 0.5];
  const last = [wide - edge, high - edge];
  const stamp = (i, steps, colour) => {
    const cx = Math.floor(left + x[i] * scale);
    const cy = Math.floor(top - y[i] * scale);
    if (cx < edge || cy < edge || cx >= last[0] || cy >= last[1]) return;
    const middle = cy * wide + cx;
    for (let k = 0; k < steps.length; k++) pixels[middle + steps[k]] = colour;
  };
  const points = stencil(size, wide);
  for (let k = 0; k < order.length; k++) stamp(order[k], points, colours[order[k]]);
  if (chosen) {
    const large = stencil(size + 2, wide);
    for (let k = 0; k < order.length; k++) if (chosen[order[k]]) stamp(order[k], large, ring);
    for (let k = 0; k < order.length; k++) if (chosen[order[k]]) stamp(order[k], points, colours[order[k]]);
  }
  context.putImageData(image, -edge, -edge);
}

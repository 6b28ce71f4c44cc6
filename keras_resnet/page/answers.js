// Outputs of the network for one picture -> what the page shows, in the form of `keras-resnet predict --json`.
import {areaOf, resample} from "./pixels.js";

const TOP = 5;  // classes of a classifier
const LONGEST_SIDE = 1024;  // of a mask, in pixels; a screen shows no more

// `outputs` holds type, dimensions and values by name; `picture` the height and width of the picture.
export function answerOf(outputs, description, picture) {
  if (outputs.boxes) return {objects: objectsOf(outputs, description, picture)};
  const [output] = Object.values(outputs);
  if (output.dims.length > 2) return segmented(output, description, picture);
  const values = output.data;
  if (!outputs.probabilities) return {values: [...values]};
  const order = [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
  const least = description.task === "tag" ? (description.task_facts.threshold ?? 0.5) : -1;
  const found = description.task === "tag" ? order.filter((index) => values[index] >= least) : order.slice(0, TOP);
  return {...named(found, description), probabilities: found.map((index) => values[index])};
}

function named(indices, {labels}) {
  return {predicted: indices.map((index) => labels?.[index] ?? `class ${index}`), predicted_indices: indices};
}

// Scores [1, h, w, classes], or classes [1, h, w] -> the class of each pixel of the picture, and their shares.
function segmented({dims: [, high, wide, count], data}, description, picture) {
  const [rows, columns] = areaOf(picture.height, picture.width, high, wide);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.height, picture.width));
  const height = Math.max(1, Math.round(scale * picture.height)), width = Math.max(1, Math.round(scale * picture.width));
  const best = new Float32Array(height * width).fill(-Infinity), classes = new Uint8Array(height * width);
  const decided = count === undefined, number = decided ? description.output.classes : count;
  const plane = new Float32Array(rows * columns), shares = new Map();
  for (let index = 0; index < number; index++) {
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const place = y * wide + x;
        plane[y * columns + x] = decided ? Number(data[place] === index) : data[place * number + index];
      }
    const scores = resample(plane, rows, columns, 1, height, width, "bilinear");
    for (let place = 0; place < best.length; place++)
      if (scores[place] > best[place]) {
        best[place] = scores[place];
        classes[place] = index;
      }
  }
  for (const index of classes) shares.set(index, (shares.get(index) ?? 0) + 1);
  const found = [...shares.keys()].sort((a, b) => shares.get(b) - shares.get(a) || a - b);
  const percent = found.map((index) => (100 * shares.get(index)) / classes.length);
  return {...named(found, description), pixels_percent: percent, mask: {classes, height, width}};
}

// Detections -> objects in pixels of the picture, the best first, without boxes beside it.
function objectsOf({boxes, scores, labels, num_detections: number, masks}, description, {height, width}) {
  const [high, wide] = description.input.size, [rows, columns] = areaOf(height, width, high, wide), objects = [];
  const down = height / rows, across = width / columns, side = masks ? masks.dims[2] : 0;
  for (let place = 0; place < number.data[0]; place++) {
    const whole = [...boxes.data.subarray(4 * place, 4 * place + 4)].map((value, axis) => value * (axis % 2 ? down : across));
    const [xmin, ymin, xmax, ymax] = whole.map((value, axis) => Math.min(Math.max(value, 0), axis % 2 ? height : width));
    if (xmax <= xmin || ymax <= ymin) continue;
    const {predicted: [name], predicted_indices: [index]} = named([labels.data[place]], description);
    const object = {predicted: name, predicted_index: index, score: scores.data[place], xmin, ymin, xmax, ymax};
    // The mask belongs to the whole box, a part of which may lie beside the picture.
    if (masks) object.mask = {values: masks.data.slice(place * side * side, (place + 1) * side * side), side, box: whole};
    objects.push(object);
  }
  return objects;
}

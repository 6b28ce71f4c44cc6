// Image file -> pixels for the network, equal to the pixels of `keras_resnet.preprocessing` bit by bit.

const MOST_PIXELS = 178956970;  // Pillow's limit
const MEAN_COLOUR = [124, 116, 104];
const PRECISION_BITS = 22;  // of Pillow's weights for bytes

// Pillow's filters: half of the width in which they are not zero, and their value.
const FILTERS = {
  bilinear: {support: 1, value: (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0)},
  bicubic: {
    support: 2,
    value(given) {
      const x = Math.abs(given), a = -0.5;
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
};

// Encoded image -> {pixels, height, width}: RGBA, upright by its EXIF orientation, and over white.
export async function decoded(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image"});
  } catch {
    throw new Error("This browser can't read the picture. JPEG, PNG, WebP, GIF and BMP files can be read if they are whole");
  }
  const {height, width} = bitmap;
  if (height * width > MOST_PIXELS) throw new Error(`The picture has more than ${MOST_PIXELS} pixels`);
  // The pixels are read, so that a canvas in the memory of the graphics card would be slower, and may round otherwise.
  const pen = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return {pixels: pen.getImageData(0, 0, width, height).data, height, width};
}

// Picture, the description of the network's input -> RGB of the network's size.
export function prepared(picture, input) {
  return input.centre_crop === null ? wholeImage(picture, input) : centreCrop(picture, input);
}

function centreCrop({pixels, height, width}, {centre_crop: size, resize_short_side: short, interpolation}) {
  const long = Math.trunc((short * Math.max(height, width)) / Math.min(height, width));
  if (short * long > MOST_PIXELS) throw new Error(`The picture of ${width}x${height} pixels is too elongated`);
  const [rows, columns] = width <= height ? [long, short] : [short, long];
  const resized = resample(pixels, height, width, 4, rows, columns, interpolation);
  const top = rounded((rows - size) / 2), left = rounded((columns - size) / 2);
  const cropped = new Uint8Array(size * size * 3);
  for (let y = 0, to = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let channel = 0; channel < 3; channel++) cropped[to++] = resized[4 * ((top + y) * columns + left + x) + channel];
  return cropped;
}

function wholeImage({pixels, height, width}, {size: [high, wide]}) {
  const [rows, columns] = areaOf(height, width, high, wide);
  const resized = resample(pixels, height, width, 4, rows, columns, "bilinear"), filled = new Uint8Array(high * wide * 3);
  for (let y = 0, to = 0; y < high; y++)
    for (let x = 0; x < wide; x++)
      for (let channel = 0; channel < 3; channel++)
        filled[to++] = y < rows && x < columns ? resized[4 * (y * columns + x) + channel] : MEAN_COLOUR[channel];
  return filled;
}

// Height and width of a picture and of the network's image -> height and width of the part that it fills, top left.
export function areaOf(height, width, high, wide) {
  const scale = Math.min(high / height, wide / width);
  return [Math.max(1, Math.min(high, rounded(scale * height))), Math.max(1, Math.min(wide, rounded(scale * width)))];
}

// Python rounds halves to the even neighbour.
function rounded(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

// Values [height, width, channels], bytes or floats -> [rows, columns, channels]: Pillow's antialiased resize, one axis
// after the other. From version 13 on, it starts with the height where that loses more than twice as much as the width.
export function resample(values, height, width, channels, rows, columns, interpolation) {
  const across = (from, high) => (columns === width ? from : pass(from, high, width, columns, channels, interpolation));
  const down = (from, wide) => (rows === height ? from : pass(from, 1, height, rows, wide * channels, interpolation));
  const heightFirst = height > rows && height - rows > 2 * (width - columns);
  return heightFirst ? across(down(values, width), rows) : down(across(values, height), columns);
}

// Along one axis: values [outer, length, inner] -> [outer, wanted, inner].
function pass(values, outer, length, wanted, inner, interpolation) {
  const {starts, weights, size} = weightsFor(length, wanted, interpolation);
  const bytes = !(values instanceof Float32Array);
  const made = bytes ? new Uint8ClampedArray(outer * wanted * inner) : new Float32Array(outer * wanted * inner);
  const kernel = bytes ? Int32Array.from(weights, (weight) => Math.trunc(weight * (1 << PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5))) : weights;
  const half = bytes ? 1 << (PRECISION_BITS - 1) : 0;
  for (let row = 0; row < outer; row++)
    for (let place = 0; place < wanted; place++) {
      const first = (row * length + starts[place]) * inner, to = (row * wanted + place) * inner;
      for (let each = 0; each < inner; each++) {
        let sum = half;
        for (let tap = 0, from = first + each; tap < size; tap++, from += inner) {
          const weight = kernel[place * size + tap];
          if (weight !== 0) sum += values[from] * weight;
        }
        made[to + each] = bytes ? sum >> PRECISION_BITS : sum;
      }
    }
  return made;
}

// Number of positions before and after -> for each new one the first position that it reads, and the weights of these.
function weightsFor(length, wanted, interpolation) {
  const {support, value} = FILTERS[interpolation], scale = length / wanted, stretch = Math.max(scale, 1);
  const reach = support * stretch, size = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(wanted), weights = new Float64Array(wanted * size);
  for (let place = 0; place < wanted; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), last = Math.min(length, Math.trunc(centre + reach + 0.5));
    let sum = 0;
    for (let at = first; at < last; at++) {
      weights[place * size + at - first] = value((at - centre + 0.5) * (1 / stretch));
      sum += weights[place * size + at - first];
    }
    for (let tap = 0; tap < last - first; tap++) if (sum !== 0) weights[place * size + tap] /= sum;
    starts[place] = first;
  }
  return {starts, weights, size};
}

// The network is in this browser, in a worker, so that the page stays alive.
let worker = null, asked = 0;
const waiting = new Map();  // number of a question -> what its promise needs

function ask(kind, given) {
  if (worker === null) {
    if (location.protocol === "file:") throw new Error("A browser gives a page its network only if a server sends both. Run `python3 -m http.server` in the page's folder, and open http://127.0.0.1:8000");
    worker = new Worker("worker.js", {type: "module"});
    worker.onmessage = ({data}) => {
      const {resolve, reject} = waiting.get(data.number);
      waiting.delete(data.number);
      if (data.error === undefined) resolve(data.result);
      else reject(new Error(data.error));
    };
    worker.onerror = (event) => {
      for (const {reject} of waiting.values()) reject(new Error(`worker.js can't run: ${event.message || "a file beside it is missing"}`));
      waiting.clear();
    };
  }
  return new Promise((resolve, reject) => {
    waiting.set(++asked, {resolve, reject});
    worker.postMessage({number: asked, kind, given});
  });
}

// Classes of pixels -> a picture of them in their colours.
function painted({classes, height, width}) {
  const canvas = document.createElement("canvas");
  canvas.height = height;
  canvas.width = width;
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height);
  classes.forEach((index, place) => image.data.set([...channels(index), 255], 4 * place));
  pen.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const answers = {
  async models() {
    return [(await ask("open")).description.network];
  },

  async of(model, blob) {
    const {answer, total_ms, pixels_ms, network_ms} = await ask("answer", blob);
    if (answer.mask) answer.mask = painted(answer.mask);
    const [total, pixels, network] = [total_ms, pixels_ms, network_ms].map(Math.round);
    return {answer, note: `${total} ms in this browser: ${pixels} ms for the pixels, ${network} ms for the network`};
  },
};

// Predicts with a compiled model: node node.mjs <model.wasm> <number> ...
import { readFile } from "node:fs/promises";

const arrays = { float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array };

/** Computes the outputs for the rows of the first input; further inputs stay zero. */
export async function predict(bytes, numbers) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { memory, descriptor, descriptor_len, run } = instance.exports;
  const text = new Uint8Array(memory.buffer, descriptor.value, descriptor_len.value);
  const { inputs, outputs } = JSON.parse(new TextDecoder().decode(text));
  const view = ({ type, offset, row_bytes }, rows) =>
    new arrays[type](memory.buffer, offset, (rows * row_bytes) / arrays[type].BYTES_PER_ELEMENT);

  const rows = numbers.length / view(inputs[0], 1).length;
  view(inputs[0], rows).set(inputs[0].type === "int64" ? numbers.map(BigInt) : numbers);
  const status = run(rows);
  if (status !== 0) throw new Error(`status ${status}; docs/wasm-abi.md says what it means`);
  return Object.fromEntries(outputs.map((port) => [port.name, Array.from(view(port, rows), Number)]));
}

const [file, ...numbers] = process.argv.slice(2);
console.log(JSON.stringify(await predict(await readFile(file), numbers.map(Number))));

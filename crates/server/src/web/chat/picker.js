// Which model answers, and whether it fits into memory.

import { at, say } from "../dom.js";
import { bytes, count, plain } from "../words.js";
import * as api from "./api.js";
import { openMenu } from "./menu.js";
import { conversation, onTalk, trouble } from "./talk.js";

/** The model that is part of the program: it tells stories, and shows that all works. */
const BUILT_IN = /^stories(:|$)/;
const FITS = { fits: "✓ fits", tight: "≈ tight", "does not fit": "✕ does not fit" };

let models = [];
let preferred = null;
let getOne = () => {};
const heard = [];

/** Calls `more` where another model is wanted, and `known` whenever it is told which there are. */
export function onPicker({ more, known }) {
  getOne = more;
  heard.push(known);
}

/** Whether there is none but the one of the program. */
export const isBare = () => models.every((model) => BUILT_IN.test(model.name));

export async function refreshModels() {
  const told = await api.picker();
  models = told.models;
  preferred = told.default;
  show();
  for (const call of heard) call();
}

const nameOf = (it) => it.model ?? preferred;

function show() {
  const it = conversation();
  const name = nameOf(it);
  const model = models.find((one) => one.name === name);
  say(at("picked"), name ? plain(name) : "No model");
  say(at("picked-fit"), model ? (FITS[model.fit?.verdict] ?? "") : "");
  at("picked-fit").dataset.fit = model?.fit?.verdict ?? "";
}

export function pick(name) {
  const it = conversation();
  it.model = name;
  show();
  if (it.id !== null) api.change(it.id, { model: name }).catch((error) => trouble(error.message));
}

/** `0.6 B · Q8_0 · 610.0 MiB · context 32 768 · in memory · ✓ fits` */
function about(model) {
  const told = [];
  if (model.parameters) told.push(`${(model.parameters / 1e9).toPrecision(2)} B`);
  if (model.quantization) told.push(plain(model.quantization));
  if (model.bytes) told.push(bytes(model.bytes));
  if (model.context) told.push(`context ${count(model.context)}`);
  if (model.loaded) told.push("in memory");
  const verdict = model.fit?.verdict;
  if (FITS[verdict]) told.push(FITS[verdict]);
  if (verdict && verdict !== "fits" && model.fit.why) told.push(plain(model.fit.why));
  if (!model.chat) told.push("not made for conversations");
  return told.join(" · ");
}

at("picker").addEventListener("click", async () => {
  const chosen = nameOf(conversation());
  const items = models.map((model) => ({
    text: plain(model.name),
    hint: about(model),
    checked: model.name === chosen,
    act: () => pick(model.name),
  }));
  openMenu(at("picker"), "Model", [...items, { text: "Get a model …", act: () => getOne() }]);
});

onTalk((what) => what === "open" && show());

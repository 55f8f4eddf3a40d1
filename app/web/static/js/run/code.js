// The same by hand: requests that make an equal run, and one that asks its model.
import { setState } from "../address.js";
import { copy, h, replace } from "../dom.js";
import { currentKey } from "../http.js";
import { icon } from "../icons.js";

const SAMPLE =
  "[[0,0,5,13,9,1,0,0],[0,0,13,15,10,15,5,0],[0,3,15,2,0,11,8,0],[0,4,12,0,0,8,8,0],[0,5,8,0,0,9,8,0],[0,4,11,0,1,12,7,0],[0,2,14,5,10,12,0,0],[0,0,6,13,10,0,0,0]]";

/** The address of the service, as other programs reach it; with a note where a key is needed. */
const service = () => new URL(".", location.href).href.replace(/\/$/, "");

function snippets(run, isNetworkOrForest) {
  const sent = isNetworkOrForest ? { name: run.name, ...run.config } : { name: run.name, from_run: run.id };
  const json = JSON.stringify(sent);
  const url = service();
  const hasKey = currentKey() !== null;
  const key = hasKey ? ' -H "Authorization: Bearer $KEY"' : "";
  const [os, header] = hasKey ? ["os, ", ', "Authorization": "Bearer " + os.environ["KEY"]'] : ["", ""];
  return {
    curl: `curl -s ${url}/runs${key} \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}'`,
    Python: `import json, ${os}urllib.request\n\nbody = json.loads(r"""${json.replaceAll('"""', '\\"\\"\\"')}""")\nrequest = urllib.request.Request("${url}/runs", json.dumps(body).encode(), {"Content-Type": "application/json"${header}})\nprint(json.load(urllib.request.urlopen(request))["id"])`,
    Predict: `curl -s "${url}/predict?run_id=${run.id}"${key} \\\n  -H "Content-Type: application/json" \\\n  -d '{"instances":[${SAMPLE}]}'`,
  };
}

export function makeCode(run, initial) {
  const texts = snippets(run, run.model_kind !== "ensemble");
  let chosen = Object.keys(texts).find((each) => each.toLowerCase() === initial) ?? "curl";
  const pre = h("pre", { tabindex: 0, "aria-label": "Code" });
  const tabs = h(".seg", { role: "group", "aria-label": "Language" });
  const show = (name) => {
    chosen = name;
    setState({ code: name === "curl" ? null : name.toLowerCase() });
    replace(
      tabs,
      Object.keys(texts).map((each) =>
        h("button", { "aria-pressed": String(each === chosen), onclick: () => show(each) }, each),
      ),
    );
    pre.textContent = texts[chosen];
  };
  replace(
    tabs,
    Object.keys(texts).map((each) =>
      h("button", { "aria-pressed": String(each === chosen), onclick: () => show(each) }, each),
    ),
  );
  pre.textContent = texts[chosen];
  return h(
    "section.card.a-code",
    h(
      "header",
      h("h2", "The same by hand"),
      h(
        "span.end",
        tabs,
        h("button.btn.icon", { "aria-label": "Copy", onclick: () => copy(texts[chosen], chosen) }, icon("copy")),
      ),
    ),
    h(".body", pre),
  );
}

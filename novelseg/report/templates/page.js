"use strict";
const PAGE = 12;
const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const percent = share => (100 * share).toFixed(0) + " %";
const fill = (select, values) => values.forEach(value => select.append(element("option", {}, value)));
const distinct = values => [...new Set(values)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));

/* The state of filters and orders is in the address, after the section: #episodes?episodes.class=melon&scores.shot=5. */
const controlled = new Map();  // key of the address → function that sets the value and updates the page
let address = { section: "", values: new Map() };
const parse = () => {
  const [section, query = ""] = location.hash.slice(1).split("?");
  return { section: decodeURIComponent(section), values: new Map(new URLSearchParams(query)) };
};
const remember = (key, value) => {
  if (value) address.values.set(key, value); else address.values.delete(key);
  const query = new URLSearchParams([...address.values]).toString();
  history.replaceState(null, "", `#${address.section}${query ? `?${query}` : ""}`);
};
const follow = () => {
  address = parse();
  for (const [key, set] of controlled) set(address.values.get(key) ?? "");
  if (address.section) document.getElementById(address.section)?.scrollIntoView();
};

/* Tables: a click on a column head sorts every group by the column, another click reverses the order; selects filter. */
for (const table of document.querySelectorAll("table")) {
  const bodies = [...table.tBodies].map(body => ({ body, head: body.querySelector(".group"), rows: [...body.querySelectorAll("tr:not(.group)")] }));
  const heads = [...table.tHead.rows[0].cells], unsorted = bodies.map(({ rows }) => [...rows]);
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.key !== undefined ? Number(cell.dataset.key) : cell.textContent;
  };
  const sort = (column, direction) => {
    heads.forEach((head, number) => head.setAttribute("aria-sort", number === column ? direction : "none"));
    const sign = direction === "ascending" ? 1 : -1;
    bodies.forEach(({ body, rows }, number) => {
      if (column < 0) rows.splice(0, rows.length, ...unsorted[number]);
      else rows.sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return sign * order;
      });
      body.append(...rows);
    });
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const first = head.classList.contains("text") ? "ascending" : "descending";  // text from A, numbers from the highest
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? second : first;
    sort(column, direction);
    remember(`${table.id}.sort`, `${head.dataset.column} ${direction}`);
  }));
  controlled.set(`${table.id}.sort`, value => {
    const direction = value.split(" ").pop();
    sort(heads.findIndex(head => `${head.dataset.column} ${direction}` === value), direction);
  });
  const selects = [...document.querySelectorAll(`form[data-for="${table.id}"] select`)];
  const refilter = () => bodies.forEach(({ head, rows }) => {
    rows.forEach(row => { row.hidden = selects.some(select => select.value && row.dataset[select.dataset.filter] !== select.value); });
    if (head) head.hidden = rows.every(row => row.hidden);
  });
  for (const select of selects) {
    select.addEventListener("change", () => { refilter(); remember(`${table.id}.${select.dataset.filter}`, select.value); });
    controlled.set(`${table.id}.${select.dataset.filter}`, value => { select.value = value; refilter(); });
  }
}

/* Pictures: a photograph, and optionally a layer over it. The enlarged one fits the window and has neighbours. */
const dialog = document.querySelector("#picture");
const stack = (base, layer, caption, kind = "button") => {
  const box = element(kind, { class: "stack", ...(kind === "button" ? { type: "button" } : {}) }, element("img", { src: base, alt: caption }));
  if (layer) box.append(element("img", { src: layer, alt: "" }));
  return box;
};
let gallery = [], current = 0;
const fit = () => {
  const image = dialog.querySelector("img");
  if (!image?.naturalWidth) return;
  const scale = Math.min(Math.min(.9 * innerWidth, 960) / image.naturalWidth, (.96 * innerHeight - 150) / image.naturalHeight);
  image.style.width = `${Math.floor(scale * image.naturalWidth)}px`;
};
const present = number => {
  current = (number + gallery.length) % gallery.length;
  const [base, layer, caption] = gallery[current];
  const box = stack(base, layer, caption, "div");
  dialog.lastElementChild.replaceChildren(box, element("p", {}, `${caption} (${current + 1} of ${gallery.length})`));
  box.firstElementChild.addEventListener("load", fit);
  fit();
};
const enlarge = (views, number) => {
  gallery = views;
  present(number);
  dialog.showModal();
};
addEventListener("resize", fit);
dialog.querySelectorAll("[data-step]").forEach(button => button.addEventListener("click", () => present(current + Number(button.dataset.step))));
dialog.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
  if (step) { event.preventDefault(); present(current + step); }
});
const figures = (views, uncaptioned = false) => element("div", { class: "strip" }, ...views.map(([base, layer, caption], number) => {
  const box = stack(base, layer, caption);
  box.addEventListener("click", () => enlarge(views, number));
  return element("figure", {}, box, ...(uncaptioned ? [] : [element("figcaption", {}, caption)]));
}));

const strip = item => figures(item.views.map(view => [item.pictures[view.base], view.layer, view.caption]));
const hues = new Map();  // each class has the same colour on the whole page
const colour = name => {
  if (!hues.has(name)) hues.set(name, (hues.size * 137.5) % 360);
  return `hsl(${hues.get(name)} 60% 50%)`;
};
const prototype = (item, browser) => {
  const shares = item.classes, listed = shares.map(([name, share]) => `${name} ${percent(share)}`);
  const bar = element("div", { class: "bar", role: "img", "aria-label": listed.join(", ") || "no annotated class" });
  shares.forEach(([name, share]) =>
    bar.append(element("span", { style: `width:${100 * share}%;background:${colour(name)}`, title: `${name} ${percent(share)}` })));
  const annotated = (item.annotated === null ? "an unknown share" : percent(item.annotated)) + " of their pixels annotated";
  const largest = [...shares].sort((a, b) => b[2] - a[2]).slice(0, 3).filter(([, , part]) => part >= .01);
  const parts = largest.map(([name, , part]) => `${percent(part)} of all ${name} pixels`);
  const contents = parts.length ? `contains ${parts.join(", ")}` : "contains less than 1 % of every class";
  const kin = element("p", { class: "kin" });
  const link = (level, number) => {
    const button = element("button", { type: "button" }, `level ${level} #${number}`);
    button.addEventListener("click", () => browser.show(item, level, number));
    return button;
  };
  if (item.parent >= 0) kin.append("parent ", link(item.level + 1, item.parent));
  if (item.children.length) kin.append(" children ", ...item.children.map(number => link(item.level - 1, number)));
  const text = `${item.members} members; ${annotated}${listed.length ? `: ${listed.slice(0, 3).join(", ")}` : ""}; ${contents}`;
  const crops = figures(browser.crops(item).map((uri, rank) => [uri, "", `${item.title}: nearest member ${rank + 1}`]), true);
  return [element("p", {}, text), bar, crops, kin];
};

class Browser {
  constructor(section) {
    this.section = section;
    this.items = JSON.parse(section.querySelector("[data-items]").textContent);
    this.cards = section.querySelector("[data-cards]");
    this.more = section.querySelector("[data-more]");
    this.selects = [...section.querySelectorAll("[data-filter]")];
    this.order = section.querySelector("[data-order]");
    this.descending = section.querySelector("[data-descending]");
    if (this.items.some(item => item.crops)) this.cards.classList.add("small");
    for (const select of this.selects) {
      const values = this.items.flatMap(item => item.facts[select.dataset.filter] ?? []);
      fill(select, distinct(values));
    }
    this.back = section.querySelector("[data-back]");
    const reset = () => { this.only = null; this.render(); };  // filters and the back button leave the view of a single card
    const own = key => `${section.id}.${key}`;
    for (const select of this.selects) {
      select.addEventListener("change", () => { reset(); remember(own(select.dataset.filter), select.value); });
      controlled.set(own(select.dataset.filter), value => { select.value = value; if (select.selectedIndex < 0) select.value = ""; reset(); });
    }
    this.back.addEventListener("click", () => { reset(); this.cards.firstElementChild?.focus(); });
    this.saveOrder = () => remember(own("sort"), this.order.value && `${this.order.value} ${this.descending.checked ? "descending" : "ascending"}`);
    [this.order, this.descending].forEach(control => control?.addEventListener("change", () => { this.render(); this.saveOrder(); }));
    if (this.order) controlled.set(own("sort"), value => {
      this.order.value = value.replace(/ (ascending|descending)$/, "");
      if (this.order.selectedIndex < 0) this.order.value = "";
      this.descending.checked = value.endsWith(" descending");
      this.render();
    });
    section.querySelector("form").addEventListener("submit", event => event.preventDefault());
    section.querySelector("[data-worst]")?.addEventListener("click", () => this.worst());
    this.more.addEventListener("click", () => this.extend());
    this.cards.addEventListener("keydown", event => this.key(event));
    reset();
  }
  selected() {
    let items = this.items.filter(item => this.selects.every(select =>
      !select.value || [item.facts[select.dataset.filter] ?? []].flat().map(String).includes(select.value)));
    if (this.only) items = this.items.filter(this.only);
    const order = this.order?.value;
    if (order) {
      const sign = this.descending.checked ? -1 : 1;
      const value = item => item.scores[order] ?? (sign > 0 ? Infinity : -Infinity);
      items = [...items].sort((a, b) => sign * (value(a) - value(b)));
    }
    return items;
  }
  render() {
    this.matches = this.selected();
    this.back.hidden = !this.only;
    this.visible = 0;
    this.cards.replaceChildren();
    this.section.querySelector("[data-count]").textContent = `${this.matches.length} of ${this.items.length}`;
    this.extend();
  }
  extend() {
    const next = this.matches.slice(this.visible, this.visible + PAGE);
    this.cards.append(...next.map(item => this.card(item)));
    this.visible += next.length;
    this.more.hidden = this.visible >= this.matches.length;
  }
  card(item) {
    const scores = Object.entries(item.scores).filter(([, score]) => score !== null);
    const listed = scores.map(([name, score]) => `${name} ${score.toFixed(1)}`).join(", ");
    const line = this.section.dataset.unit && listed ? [element("p", {}, `${this.section.dataset.unit}: ${listed}`)] : [];
    const inside = item.views ? [strip(item)] : prototype(item, this);
    return element("article", { class: "card", tabindex: "0", "aria-label": item.title }, element("h3", {}, item.title), ...line, ...inside);
  }
  worst() {
    this.order.value = this.section.querySelector("[data-worst]").dataset.worst;
    this.descending.checked = false;
    this.render();
    this.saveOrder();
    this.cards.firstElementChild?.focus();
    this.cards.firstElementChild?.scrollIntoView({ block: "center" });
  }
  kin(item, level, number) {
    return this.items.find(other => other.fold === item.fold && other.side === item.side && other.level === level && other.number === number);
  }
  crops(item) {  // at coarser levels: the nearest crop of each child
    return item.level === 1 ? item.crops : item.children.flatMap(number => this.crops(this.kin(item, item.level - 1, number)).slice(0, 1));
  }
  show(item, level, number) {
    const kin = this.kin(item, level, number);
    this.only = other => other === kin;
    this.render();
    this.cards.firstElementChild.focus();
  }
  key(event) {
    const card = event.target.closest(".card");
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (step > 0 && !card.nextElementSibling && !this.more.hidden) this.extend();
      const next = step > 0 ? card.nextElementSibling : card.previousElementSibling;
      next?.focus();
      next?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && event.target === card) {
      event.preventDefault();  // otherwise the same key press would activate the dialog's button
      const item = this.matches[[...this.cards.children].indexOf(card)];
      card.querySelectorAll(".stack")[item.main ?? 0]?.click();
    }
  }
}
document.querySelectorAll("[data-browser]").forEach(section => new Browser(section));
/* The glossary. */
const glossary = document.querySelector("#glossary");
document.querySelector("[data-glossary]").addEventListener("click", () => glossary.showModal());
/* ? opens the glossary. If no element has the focus, j and k start at the first visible card. */
document.addEventListener("keydown", event => {
  if (event.key === "?" && !document.querySelector("dialog[open]")) glossary.showModal();
  if (event.target !== document.body || !["j", "k"].includes(event.key)) return;
  const top = document.querySelector("header").getBoundingClientRect().bottom;
  [...document.querySelectorAll(".card")].find(card => card.getBoundingClientRect().bottom > top)?.focus();
});
addEventListener("hashchange", follow);
if (location.hash) follow();
document.documentElement.dataset.ready = "true";

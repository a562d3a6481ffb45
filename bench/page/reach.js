// Looks for what a reader who cannot see, hear or point as most do would stumble over. It is
// an expression whose value is a list of findings.
(() => {
	const found = [];
	const say = (what, e) => found.push(what + (e ? ": " + e.outerHTML.replace(/\s+/g, " ").slice(0, 160) : ""));
	const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !e.closest("[inert]");
	// Hidden from the eye and not from a screen reader.
	const clipped = (e) => !!e.closest(".sr, .skip:not(:focus)");

	// ---- Structure ----
	if (document.documentElement.lang !== "en") say("the language is not said");
	if (!document.title.trim()) say("there is no title");
	const ids = new Set();
	for (const e of document.querySelectorAll("[id]")) {
		if (ids.has(e.id)) say("an id is there twice", e);
		ids.add(e.id);
	}
	if (document.querySelectorAll("main").length !== 1) say("there is not one main");
	if (document.querySelectorAll("body > header").length !== 1) say("there is not one banner");
	for (const e of document.body.querySelectorAll(":scope > *")) {
		if (shown(e) && e.innerText?.trim() && !e.matches("header, main, aside, footer, dialog, [role=region], .skip, #live")) say("something stands outside of the landmarks", e);
	}
	const names = new Map();
	for (const e of document.querySelectorAll("nav, aside, search, section[aria-label], [role=region]")) {
		if (!shown(e)) continue;
		const name = e.tagName + " " + (e.getAttribute("aria-label") ?? "");
		if (!e.getAttribute("aria-label")) say("a landmark has no name", e);
		if (names.has(name)) say("two landmarks have one name", e);
		names.set(name, e);
	}
	for (const part of ["main", "#panel"]) {
		const levels = [...document.querySelectorAll(`${part} :is(h1, h2, h3)`)].filter(shown).map((h) => Number(h.getAttribute("aria-level") ?? h.tagName[1]));
		levels.forEach((l, i) => { if (i > 0 && l > levels[i - 1] + 1) say(`in ${part} a heading of level ${l} follows one of level ${levels[i - 1]}`); });
	}

	// ---- ARIA ----
	const known = {
		"aria-label": /\S/, "aria-labelledby": "ids", "aria-describedby": "ids", "aria-controls": "ids", "aria-hidden": /^(true|false)$/, "aria-live": /^(off|polite|assertive)$/,
		"aria-current": /^(page|step|location|date|time|true|false)$/, "aria-selected": /^(true|false)$/, "aria-expanded": /^(true|false)$/, "aria-invalid": /^(true|false|grammar|spelling)$/,
		"aria-busy": /^(true|false)$/, "aria-level": /^[1-6]$/,
	};
	const roles = new Set("main table rowgroup row columnheader cell status region note alert group tablist tab tabpanel".split(" "));
	const within = { row: "rowgroup", rowgroup: "table", cell: "row", columnheader: "row", tab: "tablist" };
	for (const e of document.querySelectorAll("*")) {
		for (const a of e.attributes) {
			if (!a.name.startsWith("aria-")) continue;
			const valid = known[a.name];
			if (!valid) say("an unknown attribute " + a.name, e);
			else if (valid === "ids") a.value.split(/\s+/).forEach((id) => { if (!document.getElementById(id)) say(`${a.name} names ${id}, which is not there`, e); });
			else if (!valid.test(a.value)) say(`${a.name} has the value ${a.value}`, e);
		}
		const role = e.getAttribute("role");
		if (role === null) continue;
		if (!roles.has(role)) say("an unknown role " + role, e);
		if (within[role] && !e.parentElement.closest(`[role=${within[role]}]`)) say(`a ${role} is in no ${within[role]}`, e);
		if (role === "tab" && !e.hasAttribute("aria-selected")) say("a tab does not say whether it is chosen", e);
		if (role === "tablist" && e.querySelectorAll("[role=tab][aria-selected=true]").length !== 1) say("not one tab is chosen", e);
	}
	for (const e of document.querySelectorAll("[aria-hidden=true]")) {
		if (e.matches("a[href], button, input") || e.querySelector("a[href], button, input, select, [tabindex]")) say("what is hidden from some can have the focus", e);
	}
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) say("the tab key goes another way than the text", e);

	// ---- Labels ----
	for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
		if (!shown(e)) continue;
		const label = e.getAttribute("aria-label") ?? [...e.labels].map((l) => l.textContent).join(" ");
		if (!label.trim()) say("a field has no label", e);
	}
	for (const e of document.querySelectorAll("fieldset")) if (!e.querySelector(":scope > legend")) say("a group of fields has no legend", e);
	for (const e of document.querySelectorAll("th")) if (!e.hasAttribute("scope")) say("a heading of a table is of nothing", e);

	// ---- Targets ----
	const interactive = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")].filter((e) => shown(e) && !clipped(e));
	const boxes = new Map();
	for (const e of interactive) {
		// Bars have an equivalent: the table behind them.
		if (e.closest(".bars")) continue;
		const label = e.matches("input[type=checkbox]") && e.closest("label");
		const rects = [...e.getClientRects()].concat(label ? [label.getBoundingClientRect()] : []).filter((r) => r.width && r.height);
		if (!rects.length) continue;
		boxes.set(e, { left: Math.min(...rects.map((r) => r.left)), right: Math.max(...rects.map((r) => r.right)), top: Math.min(...rects.map((r) => r.top)), bottom: Math.max(...rects.map((r) => r.bottom)) });
	}
	const middle = (b) => [(b.left + b.right) / 2, (b.top + b.bottom) / 2];
	const small = (b) => b.right - b.left < 23.95 || b.bottom - b.top < 23.95;
	const distance = ([x, y], b) => Math.hypot(Math.max(b.left - x, 0, x - b.right), Math.max(b.top - y, 0, y - b.bottom));
	const fixed = (e) => e.closest(".top, #panel, .selected, .sheet, dialog, thead");
	for (const [e, b] of boxes) {
		if (!small(b)) continue;
		// In a sentence; or with so much room around it that nothing else is hit (WCAG 2.5.8).
		if (e.matches("p a, li a") && getComputedStyle(e).display === "inline" && e.parentElement.innerText.trim() !== e.innerText.trim()) continue;
		for (const [o, other] of boxes) {
			if (o === e || o.contains(e) || e.contains(o) || fixed(o) !== fixed(e)) continue;
			const [mx, my] = middle(other), [x, y] = middle(b);
			if (distance(middle(b), other) < 12 || small(other) && Math.hypot(mx - x, my - y) < 24) {
				say(`a target is ${(b.right - b.left).toFixed(1)} by ${(b.bottom - b.top).toFixed(1)} pixels, too near to another one`, e);
				break;
			}
		}
	}

	// ---- Contrast ----
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const cache = new Map();
	const rgba = (text) => {
		if (!cache.has(text)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = "#000";
			canvas.fillStyle = text;
			canvas.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
			cache.set(text, [r, g, b, a / 255]);
		}
		return cache.get(text);
	};
	const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
	const light = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
		return .2126 * x + .7152 * y + .0722 * z;
	};
	const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	// grounds are the colours that may be painted behind an element.
	const grounds = (e) => {
		if (!e) return [rgba(getComputedStyle(document.documentElement).colorScheme === "dark" ? "#121212" : "#fff")];
		const style = getComputedStyle(e);
		const own = rgba(style.backgroundColor);
		const behind = own[3] === 1 ? [own] : grounds(e.parentElement).map((b) => over(own, b));
		const stripes = style.backgroundImage.match(/(rgba?|color)\([^)]*\)/g) ?? [];
		return style.backgroundImage === "none" ? behind : behind.concat(stripes.flatMap((s) => behind.map((b) => over(rgba(s), b))));
	};
	const least = new Map();
	const compare = (e, colour, what, want) => {
		let [r, g, b, a] = rgba(colour);
		for (let p = e; p; p = p.parentElement) a *= Number(getComputedStyle(p).opacity);
		for (const ground of grounds(e)) {
			const ratio = contrast(over([r, g, b, a], ground), ground);
			if (ratio < want) least.set(`${what} ${colour} on ${ground.slice(0, 3).map(Math.round)} has a contrast of ${ratio.toFixed(2)}`, e);
		}
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || e.closest("script, style, title, option") || !shown(e) || clipped(e)) continue;
		compare(e, e.namespaceURI.endsWith("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color, "text", 4.5);
	}
	for (const e of document.querySelectorAll("input, select")) {
		if (!shown(e) || clipped(e) || e.type === "hidden") continue;
		compare(e, getComputedStyle(e).color, "a value", 4.5);
		if (e.placeholder) compare(e, getComputedStyle(e, "::placeholder").color, "a hint", 4.5);
		// What bounds a field, see WCAG 1.4.11.
		if (e.type !== "checkbox") compare(e.parentElement, getComputedStyle(e).borderTopColor, "a field's border", 3);
	}
	for (const e of document.querySelectorAll(".outcome svg, .icon-button svg, .chip svg")) if (shown(e)) compare(e.parentElement, getComputedStyle(e).color, "a sign", 3);
	for (const [what, e] of least) say(what, e);
	return found;
})()

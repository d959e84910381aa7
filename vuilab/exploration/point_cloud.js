// Points in three dimensions that can be turned: drag, or the arrow keys. See turning_plot in point_cloud.py.
(() => {
  const CLOSE = 1.4;  // few points are as far out as the farthest
  const SHAPES = [
    (c, r) => c.arc(0, 0, r, 0, 2 * Math.PI),
    (c, r) => c.rect(-r * 0.9, -r * 0.9, r * 1.8, r * 1.8),
    (c, r) => polygon(c, r * 1.2, 3, 0),
    (c, r) => polygon(c, r * 1.2, 4, 0),
    (c, r) => polygon(c, r * 1.2, 3, Math.PI),
    (c, r) => { c.rect(-r, -r / 3, 2 * r, r / 1.5); c.rect(-r / 3, -r, r / 1.5, 2 * r); },
    (c, r) => { c.rotate(Math.PI / 4); c.rect(-r, -r / 3, 2 * r, r / 1.5); c.rect(-r / 3, -r, r / 1.5, 2 * r); },
    (c, r) => polygon(c, r * 1.3, 10, 0, 0.45),
  ];

  function polygon(c, radius, corners, turn, inner = 1) {
    for (let k = 0; k < corners; k++) {
      const angle = turn + (2 * Math.PI * k) / corners, r = k % 2 ? radius * inner : radius;
      c.lineTo(r * Math.sin(angle), -r * Math.cos(angle));
    }
    c.closePath();
  }

  function mark(c, shape, color, x, y, radius) {
    c.save();
    c.translate(x, y);
    c.beginPath();
    SHAPES[shape](c, radius);
    c.fillStyle = color;
    c.fill();
    c.restore();
  }

  function element(parent, kind, properties) {
    return parent.appendChild(Object.assign(document.createElement(kind), properties));
  }

  function start(root) {
    const data = JSON.parse(root.dataset.cloud), { points, groups, labels, colors, shapes, names, outliers, axes } = data;
    const middle = [0, 1, 2].map((k) => points.reduce((sum, p) => sum + p[k], 0) / points.length);
    const centred = points.map((p) => p.map((value, k) => value - middle[k]));
    const radius = Math.max(1e-9, ...centred.map((p) => Math.hypot(...p)));
    const hidden = new Set(), special = new Set(outliers);
    let yaw = 0.6, pitch = 0.4, zoom = CLOSE, chosen = -1, pinned = false, turning = false, drawn = [];

    root.textContent = "";
    root.style.cssText = "max-width:900px;font:14px sans-serif;color:#222;background:#fff";
    const canvas = element(root, "canvas", { tabIndex: 0 });
    canvas.style.cssText = "display:block;width:100%;height:460px;touch-action:pan-y;cursor:grab;border:1px solid #999";
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", root.dataset.summary +
      " Arrow keys turn, plus and minus zoom, N and P step through the outliers, Home goes back.");
    const status = element(root, "p", { textContent: "" });
    status.setAttribute("role", "status");
    status.style.cssText = "min-height:1.3em;margin:4px 0;overflow-wrap:anywhere";
    const controls = element(root, "div", {});
    controls.style.cssText = "display:flex;flex-wrap:wrap;gap:4px";
    const context = canvas.getContext("2d");

    function project(p) {
      const x = p[0] * Math.cos(yaw) + p[1] * Math.sin(yaw), y = p[1] * Math.cos(yaw) - p[0] * Math.sin(yaw);
      const scale = (0.46 * zoom * Math.min(canvas.clientWidth, canvas.clientHeight)) / radius;
      const depth = y * Math.cos(pitch) - p[2] * Math.sin(pitch), height = p[2] * Math.cos(pitch) + y * Math.sin(pitch);
      return [canvas.clientWidth / 2 + x * scale, canvas.clientHeight / 2 - height * scale, depth / radius];
    }

    function draw() {
      const ratio = window.devicePixelRatio || 1, c = context;
      const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
      c.font = "12px sans-serif";
      c.strokeStyle = "#888";
      c.fillStyle = "#444";
      const [x0, y0] = project([0, 0, 0]);
      axes.forEach((name, k) => {
        const [x, y] = project([0, 1, 2].map((axis) => (axis === k ? 0.7 * radius : 0)));
        c.beginPath(); c.moveTo(x0, y0); c.lineTo(x, y); c.stroke();
        const room = c.measureText(name).width;
        c.fillText(name, Math.min(Math.max(x + 4, 2), canvas.clientWidth - room - 2), y - 4);
      });
      drawn = centred.map((p, index) => [...project(p), index]).filter((place) => !hidden.has(groups[place[3]]));
      drawn.sort((a, b) => b[2] - a[2]);  // the far ones first
      for (const [x, y, depth, index] of drawn) {
        c.globalAlpha = Math.min(1, 0.75 - 0.3 * depth);
        mark(c, shapes[groups[index]], colors[groups[index]], x, y, 4 - depth);
        if (special.has(index)) ring(c, x, y, 7, "#000", 1.2);
      }
      c.globalAlpha = 1;
      const at = drawn.find((place) => place[3] === chosen);
      if (at) {
        ring(c, at[0], at[1], 9, "#000", 2.5);
        const room = c.measureText(names[chosen]).width;
        const x = Math.min(Math.max(at[0] + 12, 2), Math.max(2, canvas.clientWidth - room - 6)), y = Math.max(16, at[1] - 10);
        c.fillStyle = "rgba(255,255,255,0.85)";
        c.fillRect(x - 3, y - 13, room + 6, 18);
        c.fillStyle = "#000";
        c.fillText(names[chosen], x, y);
      }
    }

    function ring(c, x, y, size, color, width) {
      c.beginPath(); c.arc(x, y, size, 0, 2 * Math.PI);
      c.strokeStyle = color; c.lineWidth = width; c.stroke(); c.lineWidth = 1;
    }

    function choose(index, pin) {
      pinned = pin && index >= 0;
      chosen = index;
      status.textContent = index < 0 ? "Drag or press the arrow keys to turn; point at a clip for its name. Outliers are ringed."
        : `${names[index]} (${labels[groups[index]]}${special.has(index) ? ", outlier" : ""})`;
      draw();
    }

    function nearest(event) {
      const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      let best = -1, distance = 10;
      for (const place of drawn) {
        const here = Math.hypot(place[0] - x, place[1] - y);
        if (here <= distance) { best = place[3]; distance = here; }
      }
      return best;
    }

    function turn(sideways, upwards) {
      yaw += sideways;
      pitch = Math.min(Math.max(pitch + upwards, -Math.PI / 2), Math.PI / 2);
      draw();
    }

    function step(direction) {
      const shown = outliers.filter((index) => !hidden.has(groups[index]));
      if (!shown.length) { status.textContent = "There are no outliers among the words shown."; return; }
      const here = shown.indexOf(chosen);
      choose(shown[here < 0 ? (direction > 0 ? 0 : shown.length - 1) : (here + direction + shown.length) % shown.length], true);
    }

    function reset() { yaw = 0.6; pitch = 0.4; zoom = CLOSE; choose(-1, false); }

    function rescale(factor) { zoom = Math.min(Math.max(zoom * factor, 0.3), 12); draw(); }

    const keys = {
      ArrowLeft: () => turn(0.1, 0), ArrowRight: () => turn(-0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
      "+": () => rescale(1.2), "=": () => rescale(1.2), "-": () => rescale(1 / 1.2), Home: reset, Escape: () => choose(-1, false),
      n: () => step(1), p: () => step(-1),
    };
    canvas.addEventListener("keydown", (event) => {
      const action = keys[event.key] || keys[event.key.toLowerCase()];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();  // Jupyter has single-letter commands of its own
      action();
    });

    let from = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY];
      moved = 0;
      try { canvas.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
    });
    canvas.addEventListener("pointermove", (event) => {
      if (from) {
        const dx = event.clientX - from[0], dy = event.clientY - from[1];
        moved += Math.hypot(dx, dy);
        from = [event.clientX, event.clientY];
        turn(-dx / 150, dy / 150);  // what is in front follows the pointer
      } else if (!pinned) {
        const index = nearest(event);
        if (index !== chosen) choose(index, false);
      }
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (from && moved < 4 && kind === "pointerup") choose(nearest(event), true);
        from = null;
      });
    }

    const spin = element(controls, "button", { type: "button", textContent: "Turn" });
    function rotate() { if (turning && root.isConnected) { turn(0.01, 0); requestAnimationFrame(rotate); } }
    spin.addEventListener("click", () => {
      turning = !turning;
      spin.textContent = turning ? "Stop" : "Turn";
      rotate();
    });
    const plain = [["Next outlier", () => step(1)], ["Zoom in", () => rescale(1.3)], ["Zoom out", () => rescale(1 / 1.3)], ["Reset", reset]];
    for (const [text, action] of plain) {
      element(controls, "button", { type: "button", textContent: text }).addEventListener("click", action);
    }
    const legend = element(root, "div", {});
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Words shown");
    legend.style.cssText = "display:flex;flex-wrap:wrap;gap:4px;margin:6px 0";
    labels.forEach((label, group) => {
      const button = element(legend, "button", { type: "button" });
      button.style.cssText = "display:flex;align-items:center;gap:4px";
      button.setAttribute("aria-pressed", "true");
      const swatch = element(button, "canvas", { width: 14, height: 14 });
      swatch.setAttribute("aria-hidden", "true");
      mark(swatch.getContext("2d"), shapes[group], colors[group], 7, 7, 5);
      element(button, "span", { textContent: label });
      button.addEventListener("click", () => {
        const shown = hidden.has(group);
        if (shown) hidden.delete(group); else hidden.add(group);
        button.setAttribute("aria-pressed", String(shown));
        button.style.opacity = shown ? 1 : 0.4;
        if (chosen >= 0 && hidden.has(groups[chosen])) choose(-1, false); else draw();
      });
    });
    choose(-1, false);
    if (window.ResizeObserver) new ResizeObserver(draw).observe(canvas);
  }

  for (const root of document.querySelectorAll(".point-cloud:not([data-ready])")) {
    root.dataset.ready = "yes";
    start(root);
  }
})();

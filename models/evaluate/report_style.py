"""How the report looks: one sheet, dark or light as the reader's system is, from a phone's width up."""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#211d1a;--soft:#6c645c;--line:#e7e2da;
--wash:#f4f1eb;--c0:#c2451b;--c1:#0f7a74;--c2:#6a4bc4;--c3:#8a6a00;--on:#fff}
@media(prefers-color-scheme:dark){:root{--paper:#151416;--card:#1d1c1f;--ink:#ece8e2;--soft:#a29a91;
--line:#343136;--wash:#252327;--c0:#ff8a57;--c1:#3fc1b4;--c2:#ab93ff;--c3:#dcb64a;--on:#151416}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:70rem;margin:0 auto;padding:clamp(1.25rem,5vw,3.5rem) clamp(1rem,4vw,2.5rem)}
h1,h2,h3,p,ol,dl,figure{margin:0;padding:0}
h1{font-size:clamp(1.7rem,5vw,2.6rem);line-height:1.15;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.25rem;letter-spacing:-.01em;margin-bottom:.25rem}
h3{font-size:.95rem;font-weight:600}
section{margin-top:clamp(2.25rem,6vw,3.5rem)}
section>p{color:var(--soft);max-width:44rem;margin-bottom:1rem}
.brand{display:flex;align-items:center;gap:.5rem;color:var(--soft);font-size:.85rem;margin-bottom:1.1rem}
.brand svg{width:18px;height:18px;fill:none;stroke:var(--c0);stroke-width:2;stroke-linejoin:round}
.made{color:var(--soft);margin-top:.4rem;overflow-wrap:anywhere}
.verdict{font-size:clamp(1.05rem,2.6vw,1.3rem);line-height:1.5;max-width:46rem;margin-top:1.4rem}
.soft{color:var(--soft)}
.tiles,.plots,.worst,.facts{display:grid;gap:1rem}
.tiles{grid-template-columns:repeat(auto-fit,minmax(min(100%,10rem),1fr));margin-top:1.6rem}
.plots{grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));align-items:start}
.facts{grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));align-items:start}
.worst{grid-template-columns:repeat(auto-fill,minmax(9rem,1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem}
.beside{margin-top:1rem;padding-top:.5rem;padding-bottom:.5rem}
.beside tbody tr:first-child th{font-weight:700}
.tile b{display:block;font-size:1.75rem;line-height:1.2;letter-spacing:-.02em;font-weight:650}
.tile .name{font-size:.85rem;color:var(--soft)}
.tile .note{display:block;font-size:.8rem;color:var(--soft);margin-top:.2rem}
.first{border-color:var(--c1)}
.first b{color:var(--c1)}
svg{display:block;max-width:100%;font-size:11px}
.card>svg{width:100%;height:auto;max-width:30rem;margin:.5rem auto 0}
svg text{fill:var(--soft)}
.end{text-anchor:end}
.mid{text-anchor:middle}
svg .ink{fill:var(--ink)}
svg .strong{fill:var(--on);font-weight:600}
.grid{stroke:var(--line)}
.mark{stroke:var(--soft);stroke-dasharray:2 3}
.diagonal{stroke:var(--soft);stroke-dasharray:4 4}
.sure{stroke:var(--c0);stroke-width:2.5}
.curve{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.faint{stroke-width:1;opacity:.3}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}
.k0{background:var(--c0)}.k1{background:var(--c1)}.k2{background:var(--c2)}.k3{background:var(--c3)}
.right{fill:var(--c1)}
.wrong{fill:var(--c0)}
.quiet{fill:var(--soft);fill-opacity:.45}
.wash{fill:var(--wash)}
.key{display:inline-block;width:.7rem;height:.7rem;border-radius:3px;margin-right:.35rem}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.85rem;color:var(--soft)}
.legend b{color:var(--ink);font-weight:600}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.scroll svg{max-width:none;margin:0 auto}
.pairs{list-style:none}
.pairs li{display:flex;flex-wrap:wrap;gap:0 .4rem;padding:.4rem 0;border-top:1px solid var(--line);
overflow-wrap:anywhere}
.pairs li:first-child{border-top:0}
.pairs b{margin-left:auto;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-top:1px solid var(--line);vertical-align:top}
tr>:last-child{padding-right:0}
thead th{border-top:0;color:var(--soft);font-weight:500}
tbody th{font-weight:500;overflow-wrap:anywhere;min-width:5.5rem}
.n{text-align:right;white-space:nowrap}
td.meter{width:34%;min-width:5rem;vertical-align:middle}
.meter i{display:block;height:.55rem;border-radius:3px;background:var(--c1)}
.meter .low{background:var(--c0)}
details{margin-top:.75rem}
summary{cursor:pointer;color:var(--soft)}
.shot{padding:0;overflow:hidden;font-size:.85rem;line-height:1.4}
.shot img{display:block;width:100%;height:9rem;object-fit:contain;background:var(--wash)}
.shot div{padding:.6rem .75rem .75rem;overflow-wrap:anywhere}
.shot b{font-weight:600}
.shot small{display:block;color:var(--soft);margin-top:.15rem}
.facts dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1rem;font-size:.9rem;margin-top:.4rem}
.facts dt{color:var(--soft)}
.facts dd{margin:0;text-align:right;overflow-wrap:anywhere}
pre{margin:.75rem 0 0;padding:1rem;background:var(--wash);border-radius:8px;overflow-x:auto;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
:focus-visible{outline:2px solid var(--c1);outline-offset:2px}
@media(max-width:30rem){.meter{display:none}
th,td{padding-right:.5rem}.tile:last-child:nth-child(odd){grid-column:1/-1}}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""

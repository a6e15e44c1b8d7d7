// uPlot with its style, in a chunk of its own.

import "uplot/dist/uPlot.min.css";
export { default } from "uplot";

"""Share a trained generator: a folder, ONNX files, or an instrument in one HTML file."""

"""Enlarge any archive of pictures: `facesr upscale`, as a library.

| module | holds |
| --- | --- |
| `request` | what is asked for, and the listing of INPUT |
| `record` | what lies on storage beside the pictures |
| `plan` | the name of every result, and the work units |
| `job` | what a run does, on record, so that the same command goes on where it was |
| `task` | settings and engine, as workers are told |
| `worker` | one unit: reading, the network and writing at the same time |
| `treatment` | what is done with one picture |
| `journal` | which picture was in work when a worker died |
| `outputs` | folder, zip, tar or Parquet |
| `assembly` | archives, from what the workers left |
| `estimate` | time and space, before the start |
| `cluster` | what must be the same on every node |
| `run` | all of it together |
"""

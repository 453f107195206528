"""Enlarge any archive of pictures: `facesr upscale`, as a library; and `facesr view`, which shows the result.

    from pipeline.bulk.listing import listed
    from pipeline.bulk.outputs import Output
    from pipeline.bulk.run import upscale
    from pipeline.bulk.settings import RunOptions, Settings
    with listed("faces.zip", Output.of("large"), Settings(realism=0.5), RunOptions(workers=2)) as listing:
        summary = upscale(listing)

| module | holds |
| --- | --- |
| `settings` | what decides the images, and how the work is done |
| `outputs` | folder, zip, tar or Parquet |
| `listing` | the entries of INPUT |
| `plan` | the name of every result, and the work units |
| `record` | what lies on storage beside the pictures |
| `ownership` | what a run may write, replace and remove |
| `job` | what a run does, on record, so that the same command goes on where it was |
| `node_check` | what must be the same on every node |
| `worker` | one unit: reading, the network and writing at the same time |
| `picture_job` | one picture: read, enlarge, check, encode, write |
| `face_restore` | faces done upright |
| `checks` | agreement with the input, and which results a person should look at |
| `crash_journal` | which picture was in work when a worker died |
| `assembly` | archives, from what the workers left |
| `run` | all of it together, and the estimate of time and space |
| `gallery` | a result as one HTML page |
"""

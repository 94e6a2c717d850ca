def handler(event, context):
    return {"word": "hello"}
